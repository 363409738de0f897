"""Foreign text, values and sizes inside one-sentence messages: printable, on one line, short."""

LONGEST = 120


def printable(text: str) -> str:
    """Text in which all that does not print (line ends, control and bidi characters, half surrogate pairs) is an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def shown(text: str, longest: int = LONGEST) -> str:
    """Printable text of at most `longest` characters."""
    safe = printable(text[: longest + 1])
    return safe if len(safe) <= longest and len(text) <= longest else f"{safe[: longest - 3]}..."


def value(thing: object, longest: int = LONGEST) -> str:
    """A value as Python writes it, shortened; its type where it cannot be written (too deep, too many digits, broken)."""
    try:
        return shown(repr(thing), longest)
    except Exception:
        return f"a value of type {type(thing).__name__}"


def cause(error: BaseException, longest: int = 2 * LONGEST) -> str:
    """An exception as `Type: what it says`, whatever it says."""
    try:
        words = " ".join(str(error).split())
    except Exception:
        words = ""
    return shown(f"{type(error).__name__}: {words}" if words else type(error).__name__, longest)


def size(count: float) -> str:
    """A number of bytes for people: `1.5 GB`, in powers of 1000."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return f"{count / factor:,.1f} {unit}"
    return f"{count / 1e3:,.1f} kB"
