"""Whose Python a run may execute: one's own, which was seen before, or what one says to trust.

Code is known by the digests of its files. What a configuration of one's own brought once is remembered for this account, so that
its runs go on without a word; a run from somebody else says what it would execute and waits for `--trust`.
"""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from w2sr_jax.core import files, sentences
from w2sr_jax.core.errors import UserError

FLAG = "--trust"
LISTED = 5  # files named in a sentence


def remember(code: Mapping[str, str], environment: Mapping[str, str] | None = None) -> None:
    """Execute this code (path → sha256) without a question from now on, on this account. Where nothing can be written there,
    nothing is remembered."""
    if code:
        with contextlib.suppress(OSError, UserError):
            files.write_json(_note(code, environment), dict(code))


def remembered(code: Mapping[str, str], environment: Mapping[str, str] | None = None) -> bool:
    return not code or _note(code, environment).is_file()


def check(run: Path, folder: Path, code: Mapping[str, str], trusted: bool) -> None:
    """`UserError` where a run has Python of its own that nobody has trusted yet: whose it is, and what to do."""
    if trusted or remembered(code):
        return
    names = [sentences.shown(name, 60) for name in sorted(code)]
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    whose = sorted({_owner(folder / name) for name in code})
    raise UserError(
        f"{run} has Python of its own, which this command executes: {', '.join(names[:LISTED])}{more} in {folder} "
        f"({' and '.join(whose)}), and this account has not run it before; read it, and give {FLAG} if you trust it"
    )


def _note(code: Mapping[str, str], environment: Mapping[str, str] | None) -> Path:
    variables = os.environ if environment is None else environment
    home = variables.get("XDG_DATA_HOME") or os.path.join(variables.get("HOME") or os.path.expanduser("~"), ".local", "share")
    return Path(home) / "w2sr_jax" / "trusted" / f"{files.digest_json(dict(code))}.json"


def _owner(path: Path) -> str:
    """Who a file belongs to, in words."""
    try:
        number = path.stat().st_uid
    except OSError:
        return "of an unknown owner"
    try:
        import pwd

        return f"owned by {pwd.getpwuid(number).pw_name}"
    except (ImportError, KeyError):
        return f"owned by user {number}"
