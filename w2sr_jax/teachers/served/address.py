"""The address of a server: what of it can be used, and whether it is this machine."""

import ipaddress
from urllib.parse import SplitResult, urlsplit

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError


def check(url: str, where: str) -> None:
    """`UserError`, naming `where`, for what is no base url of an API or holds a secret, which is then not repeated."""
    parts = _split(url)
    if parts is not None and (parts.username is not None or parts.password is not None or parts.query or parts.fragment):
        raise UserError(f"{where}: its url holds a name, a password or a query; give the bare address and the key by key_env")
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or not url.isascii() or not url.isprintable():
        raise UserError(f"{where} has the url {sentences.value(url)}; write one like http://127.0.0.1:8000/v1")
    if parts.path.rstrip("/").endswith("/completions"):
        raise UserError(f"{where} has the url {sentences.value(url)}; give it only up to what comes before /chat or /completions")


def plain(url: str) -> str:
    """One spelling for a url with and without a last slash."""
    return url.rstrip("/")


def encrypted(url: str) -> bool:
    return urlsplit(url).scheme == "https"


def openai(url: str) -> bool:
    """Whether the server is OpenAI's own, over https."""
    host = urlsplit(url).hostname or ""
    return encrypted(url) and (host == "openai.com" or host.endswith(".openai.com"))


def loopback(url: str) -> bool:
    """Whether the server is on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
    except ValueError:
        return None
    return None if any(c.isspace() for c in url) else parts
