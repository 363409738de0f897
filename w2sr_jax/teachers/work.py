"""What a teacher gets to write the traces of a rung, and what it returns."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from w2sr_jax.core.sharing import ON_ONE_DISK, Sharing

if TYPE_CHECKING:
    from w2sr_jax.answers.grade import Grader
    from w2sr_jax.core.records import Problem
    from w2sr_jax.sampling.traces import Author
    from w2sr_jax.text.contract import Tokenizer


@dataclasses.dataclass(frozen=True)
class TeacherWork:
    """What a teacher gets to write the traces of one rung.

    `problems` are to be answered, `tested` are test problems, which no trace may answer. Files are written into `folder`; files
    for all rungs of the run are in `shared_folder`. `identity` is a digest of all that determines the traces besides the
    problems. `author` is the run's model behind the teacher, where it has one; it reads parameters onto the mesh. `tokenizer` is
    the run's, where the teacher `reads_tokenizer`. `sharing` is how several processes see each other's files. Inside `stop()`,
    which yields whether to stop, the work is expected to save itself.
    """

    problems: "Sequence[Problem]"
    tested: "Sequence[Problem]"
    grader: "Grader"
    seed: int
    folder: Path
    shared_folder: Path
    identity: str
    progress: Callable[[float, float, str], None]
    say: Callable[[str], None]
    warn: Callable[[str], None]
    stop: Callable[[], contextlib.AbstractContextManager[Callable[[], bool]]]
    author: "Callable[[], Author] | None" = None
    tokenizer: "Callable[[], Tokenizer] | None" = None
    sharing: Sharing = ON_ONE_DISK


@dataclasses.dataclass(frozen=True)
class WrittenTraces:
    """Files of graded traces, problem by problem in the order of the problems; counts and costs besides those of the traces
    themselves; a line for people that goes on after "N traces". `parameters` and `prompt_tokens` say what drawing them took."""

    paths: Sequence[Path]
    measures: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    note: str = ""
    parameters: int = 0
    prompt_tokens: int = 0
