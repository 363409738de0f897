"""Teachers whose traces lie in a file or come from a server. Dataclasses only."""

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.teachers.served import address
from w2sr_jax.teachers.teacher import Described, Findings, Small, Teacher
from w2sr_jax.teachers.work import TeacherWork, WrittenTraces

if TYPE_CHECKING:
    from w2sr_jax.core.records import Problem
    from w2sr_jax.teachers.recorded import Loaded

ShapeName = Literal["columns", "messages", "prompt", "instruction"]

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,99}")
_LENGTHS = ("max_tokens", "max_completion_tokens")
_OF_REQUESTS = (
    "model",
    "messages",
    "prompt",
    "temperature",
    "top_p",
    *_LENGTHS,
    "stop",
    "seed",
    "logprobs",
    "top_logprobs",
    "n",
    "stream",
    "echo",
)


@dataclasses.dataclass(frozen=True)
class Recorded(Teacher):
    """Recorded traces: JSON Lines (`.jsonl`, also `.gz`), Parquet, or a data set of the Hub or of TFDS."""

    name: str = "recorded"
    """Name of the teacher in tables, files and keys."""
    path: str = ""
    """The file; or `hf:NAME[:CONFIG][:SPLIT]`, `tfds:NAME[/CONFIG][:SPLIT]`, where NAME may be a local directory."""
    question: str = "question"
    """Field with the question; another one than the default is taken as it is, as a column unless `shape` says otherwise."""
    trace: str = "trace"
    """Field with the chain of thought, likewise; where rows hold lists of texts, each is one sample."""
    gold: str | None = "gold"
    """Field with the gold answer; None: the file has none. In recognised shapes the default also stands for `answer`,
    `expected_answer` or the marked answer in `solution`, or for none."""
    id: str | None = None
    """Field with the problem's id in the file, stored in the problem's `meta`; rows with one id must have one question."""
    sample: str | None = None
    """Field with the number of the sample; None: rows of one problem are numbered in the order of the file."""
    where: tuple[tuple[str, str], ...] = ()
    """Only rows whose field has this value: pairs (field, value)."""
    meta: tuple[str, ...] = ()
    """Fields to keep in the problem's `meta`, such as a difficulty level."""
    limit: int | None = None
    """Use at most this many rows, from the top (after `where`)."""
    task: str = "recorded"
    """Name of the task that the problems get, shown in reports."""
    weight: float = 1.0
    """How much its traces count in the mix."""
    shape: Literal["auto", "columns", "messages", "prompt", "instruction"] = "auto"
    """How rows hold question and trace: in two columns; as `messages` or `conversations`; as `prompt` and `completion`; as
    LLaMA-Factory's `instruction`, `input` and `output`. auto: as the fields of the first rows say."""
    strip: tuple[str, ...] = ()
    """Texts that are taken off the beginning or end of questions, such as an instruction to reason step by step, so that they
    match the problems' questions."""
    finish: str | None = None
    """Field that says how a trace ended, in the words of servers (`stop`, `length`, …) or as true or false; None: one that is
    called so (`finish_reason`, `truncated`, …), if there is one; "": none. Without it all traces count as finished."""
    reasoning: str | None = None
    """Field with the reasoning that belongs in front of the trace, between `<think>` and `</think>`; None: one that is called so
    (`reasoning_content`, `thinking`, …) and holds no labels, if there is one; "": none."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise UserError(f"teacher {self.name!r} has the weight {self.weight}; weights are finite and not negative")
        if self.limit is not None and self.limit < 1:
            raise UserError(f"teacher {self.name!r} has the limit {self.limit}; it must be 1 or more, or None for all rows")
        if any(not text.strip() for text in self.strip):
            raise UserError(f"teacher {self.name!r} has an empty text in strip; give what questions begin or end with")

    is_file = True
    origin = "file"

    @property
    def described(self) -> Described:
        return Described("traces recorded in a file")

    def load(
        self, problems: "Sequence[Problem] | None" = None, tested: "Sequence[Problem]" = (), most: int | None = None
    ) -> "Loaded":
        from w2sr_jax.teachers.recorded import load

        return load(self, problems, tested, most)

    def rehearsed(self, small: Small) -> "Recorded":
        return small.recorded(self)

    def head(self, rows: int) -> "Recorded":
        return dataclasses.replace(self, limit=min(self.limit or rows, rows))

    def write(self, work: TeacherWork) -> WrittenTraces:
        from w2sr_jax.teachers.recorded_traces import write_recorded

        return write_recorded(self, work)

    def inspect(self, where: str, findings: Findings, questions: "Callable[[], set[str] | None]") -> None:
        from w2sr_jax.teachers.recorded_traces import inspect_recorded

        inspect_recorded(self, where, findings, questions)


@dataclasses.dataclass(frozen=True)
class Served(Teacher):
    """A model behind an OpenAI-compatible server: vLLM, SGLang, `transformers serve`, or a hosted one. It is asked for one trace
    per request; every answer is stored as it arrives, and none is asked for twice."""

    name: str = "served"
    """Name of the teacher in tables, files and keys."""
    url: str = "http://127.0.0.1:8000/v1"
    """Where the server's API begins, up to `/v1`; another url is another teacher, whose answers are asked for anew."""
    model: str = ""
    """The model's name on the server; empty: the only one that it lists."""
    api: Literal["chat", "completions"] = "chat"
    """chat: the server puts the model's chat template around the prompt. completions: it continues the prompt as it is."""
    key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key, which is stored nowhere; empty: send none. Over http OPENAI_API_KEY
    is sent to this machine alone."""
    samples: int = 4
    """Traces per problem."""
    prompt: str = "{question}\nPlease reason step by step, and put your final answer within \\boxed{}."
    """The user's turn, or the text to continue; {question} stands for the question."""
    system: str | None = None
    """A system message put before the user's turn."""
    temperature: float | None = 0.7
    """Divides the logits; 0 is greedy; None leaves it to the server."""
    top_p: float | None = None
    """Draw from the fewest most probable tokens that hold this much probability; None leaves it to the server."""
    max_tokens: int = 1024
    """Most tokens of an answer, its reasoning included."""
    length_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the server calls that; OpenAI's reasoning models know only the latter."""
    stop: tuple[str, ...] = ()
    """An answer ends before the first of these."""
    extra_body: tuple[tuple[str, bool | int | float | str], ...] = ()
    """Fields that this server knows besides, as ("top_k", 20) or ("chat_template_kwargs.enable_thinking", False)."""
    send_seed: bool = True
    """Send a seed with each request, so that servers that honour it give the same answer again; False where it is refused."""
    logprobs: bool = False
    """Ask for log-probabilities, for a trace's mean."""
    top_logprobs: int = 0
    """Ask for so many of the most probable tokens at each position, for losses that look at the `teacher` (OpenAI gives 20 at
    most). They count where the server's model has the run's tokenizer: where that spells an answer with the very tokens that the
    server names, by their texts, or by ids as vLLM does with ("return_tokens_as_token_ids", True) in `extra_body`. Other traces
    are used without, and counted."""
    concurrency: int = 8
    """Requests at a time."""
    timeout: float = 600.0
    """Seconds after which a request without a whole answer is given up and tried again."""
    attempts: int = 6
    """How often one request is tried when the server is busy, fails, stalls or answers nonsense."""
    back_off: float = 1.0
    """A first retry waits up to so many seconds, each further one up to twice as long as the one before, a minute at most."""
    failures: int = 10
    """Requests that may fail in all attempts; their traces are missing. One more ends the work."""
    requests_per_minute: float | None = None
    """Requests are spread so that no minute has more; None: no limit."""
    tokens_per_minute: float | None = None
    """Likewise for tokens of prompts and answers."""
    prompt_price: float = 0.0
    """Price of a million prompt tokens, in any currency."""
    completion_price: float = 0.0
    """Price of a million tokens of answers."""
    max_cost: float | None = None
    """No request is sent that could bring the cost of all answers above this; None: no limit."""
    weight: float = 1.0
    """How much its traces count in the mix."""

    def __post_init__(self) -> None:
        where = f"teacher {sentences.value(self.name)}"
        address.check(self.url, where)
        least_of = {"samples": 1, "max_tokens": 1, "concurrency": 1, "attempts": 1, "failures": 0, "top_logprobs": 0}
        for name, least in least_of.items():
            if getattr(self, name) < least:
                raise UserError(f"{where} has the {name} {getattr(self, name)}; it must be {least} or more")
        for name in ("timeout", "requests_per_minute", "tokens_per_minute"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UserError(f"{where} has the {name} {value}; it must be positive")
        for name in ("temperature", "back_off", "prompt_price", "completion_price", "max_cost", "weight"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise UserError(f"{where} has the {name} {value}; it must be 0 or positive")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UserError(f"{where} has the top_p {self.top_p}; it must lie in (0, 1]")
        if "{question}" not in self.prompt:
            raise UserError(f"{where}: its prompt must contain {{question}}, which stands for the question")
        if not all(self.stop):
            raise UserError(f"{where} has an empty text in stop; give texts that end an answer, as in ('\\n\\n',)")
        if self.api == "completions" and self.system is not None:
            raise UserError(f"{where} has a system message, which the api 'completions' has no place for; put it into its prompt")
        own = next((name for name, _ in self.extra_body if name.split(".")[0] in _OF_REQUESTS), None)
        if own is not None:
            raise UserError(f"{where} has {sentences.value(own)} in extra_body; other settings of the teacher set that field")
        if not all(part for name, _ in self.extra_body for part in name.split(".")):
            raise UserError(f"{where} has a field without a name in extra_body; write ('top_k', 20)")
        if self.key_env and not _VARIABLE.fullmatch(self.key_env):
            # What stands here may be the key itself, so it is not repeated.
            raise UserError(f"{where}: its key_env must be the name of an environment variable, as OPENAI_API_KEY, never a key")

    origin = "server"

    @property
    def described(self) -> Described:
        if not self.model:
            return Described("a model behind a server, the only one that it lists")
        return Described("a model behind a server, ", self.model)

    @property
    def steering(self) -> Any:
        from w2sr_jax.teachers.served.request import steering

        return (self.name, self.samples, steering(self))

    @property
    def reads_tokenizer(self) -> bool:
        return self.top_logprobs > 0

    @property
    def records(self) -> bool:
        return self.top_logprobs > 0

    def write(self, work: TeacherWork) -> WrittenTraces:
        from w2sr_jax.teachers.served.traces import write_served

        return write_served(self, work)

    def inspect(self, where: str, findings: Findings, questions: "Callable[[], set[str] | None]") -> None:
        from w2sr_jax.teachers.served.traces import inspect_served

        inspect_served(self, findings)

    def most_tokens(self, problems: int) -> int:
        return problems * self.samples * self.max_tokens
