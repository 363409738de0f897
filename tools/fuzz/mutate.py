"""Seeded damage to bytes, and hostile values, for the fuzzers beside this file."""

import random
from typing import Any

TOKENS = (
    *(
        b"\x00",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        "\u202e".encode(),
        "\u2028".encode(),
        b"\xed\xa0\x80",
        b"\r",
        b"\n",
        b"\r\n",
        b"\t",
        b" ",
    ),
    *(
        b'"',
        b"'",
        b"\\",
        b"\\ud800",
        b"\\u0000",
        b"{",
        b"}",
        b"[",
        b"]",
        b"(",
        b")",
        b":",
        b",",
        b"#",
        b"#### ",
        b"####",
        b"-",
        b"e9",
    ),
    *(
        b"null",
        b"true",
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"9" * 5000,
        b"[" * 3000,
        b"{}",
        b'{"a":',
        b'"gold": 7, ',
        b"None",
        b"0",
        b"-1",
    ),
    *(b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff\x0f", b"\x80\x80\x80\x80\x80\x80\x01"),
)


def mutated(rng: random.Random, data: bytes, shifting: float = 1.0) -> bytes:
    """`data` after one to four flips, replacements, insertions, deletions, splices or a truncation.

    `shifting` is how often more than flips may happen: where a format holds offsets, most else is noticed at its first look.
    """
    shifts = rng.random() < shifting
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        data = _once(rng, bytearray(data), shifts)
    return data


def _once(rng: random.Random, data: bytearray, shifts: bool) -> bytes:
    if not data:
        return rng.choice(TOKENS)
    at = rng.randrange(len(data))
    length = rng.choice((1, 1, 2, 5, 40, len(data)))
    how = rng.randrange(8 if shifts else 3)
    if how in (0, 1):
        data[at] ^= 1 << rng.randrange(8)
    elif how == 2:
        data[at] = rng.randrange(256)
    elif how == 3:
        data[at:at] = rng.randbytes(rng.choice((1, 2, 30)))
    elif how == 4:
        data[at:at] = rng.choice(TOKENS)
    elif how == 5:
        del data[at : at + length]
    elif how == 6:
        other = rng.randrange(len(data))
        data[at : at + rng.choice((0, length))] = data[other : other + length]
    else:
        del data[at:]
    return bytes(data)


def json_value(rng: random.Random, depth: int = 3) -> Any:
    """Any JSON value, the unpleasant ones more often than not; some are Python's own extensions."""
    plain = (
        None,
        True,
        False,
        0,
        -1,
        7,
        10**30,
        2**31,
        1.5,
        1e308,
        float("nan"),
        float("-inf"),
        "",
        " ",
        "7",
        "seven",
        "work #### ",
        "#### 9",
    )
    hostile = ("\ud800", "a\x00b", "\u202eevil", "\ufeff7", "<script>", "x" * 3000, "\r\n", "1/0", "9" * 1600, 10**4200, "é" * 50)
    how = rng.randrange(10)
    if depth and how == 0:
        return [json_value(rng, depth - 1) for _ in range(rng.randrange(4))]
    if depth and how == 1:
        return {
            rng.choice(("question", "answer", "", "\ud800", "type", "k")): json_value(rng, depth - 1)
            for _ in range(rng.randrange(4))
        }
    if depth and how == 2:
        value: Any = "deep"
        for _ in range(rng.choice((2, 5, 300, 900))):
            value = [value]
        return value
    return rng.choice(plain if how < 7 else hostile)
