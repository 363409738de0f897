"""Text in scripts and YAML: whatever it holds, it stays one word, one value, on one line."""

import shlex

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError

_ESCAPES = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def checked(text: str, where: str) -> str:
    """The text. `UserError` where no file could hold it: a zero, or what is not UTF-8."""
    if "\0" in text or any(0xD800 <= ord(c) < 0xE000 for c in text):
        raise UserError(
            f"{where} {sentences.value(text)} holds what no script can: a zero character, or bytes that are not UTF-8"
        )
    return text


def shell(text: str) -> str:
    """One word of bash. What does not print is written with escapes, so that no word spans lines."""
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(_ESCAPES.get(c, c if c.isprintable() else _bytes(c)) for c in text) + "'"


def words(command: tuple[str, ...]) -> str:
    """A command as a line of bash."""
    return " ".join(map(shell, command))


def yaml(text: str) -> str:
    """One string of YAML, in double quotes, which are JSON's for plain text."""
    return '"' + "".join(map(_yaml_character, text)) + '"'


def kubernetes(text: str) -> str:
    """Text for `command`, `args` or `env` of a container, where Kubernetes would replace `$(NAME)`."""
    return text.replace("$", "$$")


def _bytes(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in character.encode())


def _yaml_character(character: str) -> str:
    code = ord(character)
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable() and code < 0x10000:
        return character
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
