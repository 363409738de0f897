"""Whose Python a run may execute: one's own, which was seen before, or what one says to trust.

Code is identified by the digests of its files. The code of one's own configurations is remembered for this account, so that their
runs go on without a question; a run from somebody else says what it would execute and needs `--trust`.
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
    """Remember for this account that this code (path → sha256) may be executed without a question. Nothing is remembered where
    the account's data directory cannot be written."""
    if code:
        with contextlib.suppress(OSError, UserError):
            files.write_json(_note(code, environment), dict(code))


def remembered(code: Mapping[str, str], environment: Mapping[str, str] | None = None) -> bool:
    return not code or _note(code, environment).is_file()


def check(run: Path, folder: Path, code: Mapping[str, str], trusted: bool) -> None:
    """`UserError` where a run has Python of its own that this account does not trust yet; it names the files and their owner."""
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
    """The owner of a file, in words."""
    try:
        number = path.stat().st_uid
    except OSError:
        return "of an unknown owner"
    try:
        import pwd

        return f"owned by {pwd.getpwuid(number).pw_name}"
    except (ImportError, KeyError):
        return f"owned by user {number}"
