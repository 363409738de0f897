"""Words of trackers without what may be a secret: their errors quote addresses, headers and keys."""

import os
import re
from collections.abc import Mapping

_NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL|AUTH", re.I)
_SHORTEST = 6  # characters from which on the value of such a variable is a secret: shorter ones are stand-ins such as EMPTY
_USER = re.compile(r"://[^/\s@]+@")
_QUERY = re.compile(r"\?[^\s'\")]+")
_RANDOM = re.compile(r"(?<![\w-])(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[\w-]{24,}(?![\w-])")
HIDDEN = "[hidden]"


def without_secrets(text: str, variables: Mapping[str, str] | None = None) -> str:
    """The text without the values of environment variables that are named like secrets, without users, passwords and queries of
    addresses, and without long words of letters and digits, as keys are."""
    values = (os.environ if variables is None else variables).items()
    hidden = {value for name, value in values if _NAMES.search(name) and len(value) >= _SHORTEST}
    for value in sorted(hidden, key=len, reverse=True):
        text = text.replace(value, HIDDEN)
    return _RANDOM.sub(HIDDEN, _QUERY.sub("", _USER.sub("://", text)))


def holds_secret(address: str) -> bool:
    """Whether an address names a user or has a query, in which passwords and tokens are written."""
    return bool(_USER.search(address)) or "?" in address
