"""What a check has to say: what it looked at, what is odd, and what cannot work."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence

from w2sr_jax.core.errors import Unsavable, UserError
from w2sr_jax.teachers.teacher import Findings as TeacherFindings


class Findings:
    """What one check finds, in words: what it `seen`, what is odd (`remarks`), what cannot work (`refused`)."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.remarks: list[str] = []
        self.refused: list[str] = []
        self.hindered = False

    def see(self, words: str) -> None:
        self.seen.append(words)

    def remark(self, words: str) -> None:
        self.remarks.append(words)

    def refuse(self, words: str) -> None:
        self.refused.append(words)

    def refuse_for(self, error: UserError, where: str = "") -> None:
        """Refuse in the words of an error, after `where`. Settings that cannot be saved are refused where the user's code is
        looked at, and keep other checks from looking."""
        if isinstance(error, Unsavable):
            self.hindered = True
        else:
            self.refuse(f"{where}: {error}" if where else str(error))

    def for_teacher(self) -> TeacherFindings:
        """Whom a teacher tells what it finds out about itself."""
        return TeacherFindings(self.see, self.remark, self.refuse)

    @contextlib.contextmanager
    def refusing(self, where: str = "") -> Iterator[None]:
        """A `UserError` raised inside is refused in its words, after `where`, and the check goes on."""
        try:
            yield
        except UserError as error:
            self.refuse_for(error, where)


def listed(names: Sequence[str], most: int = 4) -> str:
    """Names in words; of many, the first ones and how many more there are."""
    shown = list(itertools.islice(names, most))
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
