"""An arm of pairs in a run: imitated first, preferred then; interrupted anywhere it ends with the same bits, and commands that
look at runs show its pairs."""

import dataclasses
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from w2sr_jax.batches.packing import Packed
from w2sr_jax.batches.settings import Batching
from w2sr_jax.cli import main as cli
from w2sr_jax.core import files, records
from w2sr_jax.core.errors import NothingToTrain, Stopped, UserError
from w2sr_jax.core.process.stopping import Stop
from w2sr_jax.core.records import Example, Pair, Problem, Trace
from w2sr_jax.curation.arms import Correct
from w2sr_jax.curation.dispositions import Disposition
from w2sr_jax.curation.pairs import Pairs
from w2sr_jax.evaluation.probe import Probe
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.experiment import Arm, Experiment, Imitation, ModelTeacher, Rung, Scratch, check
from w2sr_jax.experiment.preference import Preference
from w2sr_jax.graph import skips
from w2sr_jax.graph.root import Store
from w2sr_jax.graph.stage import Silent
from w2sr_jax.graph.store import RunStore
from w2sr_jax.losses.preference import Dpo
from w2sr_jax.losses.sequences import Gspo
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.planning import hardware
from w2sr_jax.planning.plan import Asked, plan
from w2sr_jax.preflight import checks
from w2sr_jax.preflight.rehearsal import shrink
from w2sr_jax.problems.settings import Generated, Splits
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.stages.execute import execute
from w2sr_jax.teachers.teacher import Teacher
from w2sr_jax.teachers.work import TeacherWork
from w2sr_jax.text.settings import WordTokenizer
from w2sr_jax.training import journal
from w2sr_jax.training.settings import Training

SMALL = ModelConfig(width=16, layers=1, heads=2, kv_heads=2, mlp=32)
LENGTH = 192
TRAINING = Training(steps=2, batching=Batching(length=LENGTH, rows=4))
PREFERRED = Training(steps=4, learning_rate=1e-3, save_every=2, log_every=1, batching=Batching(length=LENGTH, rows=2))
STAGE = "rungs/0-small/dpo/train"


@dataclasses.dataclass(frozen=True)
class Scribe(Teacher):
    """Copies the worked solution, and states a bare answer that is wrong for even problems, or is always right (`right`)."""

    name: str = "scribe"
    right: bool = False

    def traces(self, work: TeacherWork) -> Iterator[Trace]:
        for problem in work.problems:
            answer = int(str(problem.answer))
            yield Trace.of(problem.id, self.name, 0, str(problem.solution))
            yield Trace.of(problem.id, self.name, 1, f"#### {answer if self.right or answer % 2 else answer + 1}")


def experiment(right: bool = False, preference: Any = None, **rung: Any) -> Experiment:
    preference = preference or Preference(Dpo(beta=0.5), training=PREFERRED, probe=Probe(every=2))
    arm = Arm("dpo", select=Pairs(), train=(Imitation(), preference))
    settings = {"arms": (arm,), "gold": False, "training": TRAINING, "teachers": ("scribe",), **rung}
    return Experiment(
        name="preferred",
        problems=Generated(operations=(2, 2), largest=9),
        splits=Splits(pool=16, probe=2, test=4),
        tokenizer=WordTokenizer(largest=9),
        teachers=(Scribe(right=right),),
        rungs=(Rung("small", SMALL, Scratch(), **settings),),
        decoding=Decoding(temperature=0.0, max_tokens=8, batch=8),
        evaluation=Evaluation(samples=0, resamples=20, faithfulness=0),
        mesh=Mesh(data=1),
    )


class Interrupting(Silent):
    """Asks a run to stop when a stage has so many steps, or rows of a reference, behind it."""

    def __init__(self, stop: Stop, stage: str, after: float, detail: str) -> None:
        self.stop, self.stage, self.after, self.detail, self.now = stop, stage, after, detail, ""

    def begin(self, stage: str, index: int, total: int) -> None:
        self.now = stage

    def progress(self, done: float, total: float, detail: str) -> None:
        if self.now == self.stage and done >= self.after and self.detail in detail:
            self.stop.signal = signal.SIGTERM


class Ran(NamedTuple):
    run: RunStore
    undisturbed: RunStore


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    root = tmp_path_factory.mktemp("preferred")
    for after, detail in ((0, "reference"), (2, "loss")):
        stop = Stop()
        with pytest.raises(Stopped):
            execute(experiment(), root / "run", Interrupting(stop, STAGE, after, detail), stop=stop)
    for kind in ("problems", "tokenizer", "sample", "curate", "train"):
        # What lies before the training is taken from there; the training itself is not finished yet.
        execute(experiment(), root / "undisturbed", Silent(), kind=kind, share=Store(root))
    execute(experiment(), root / "run", Silent())
    return Ran(RunStore(root / "run"), RunStore(root / "undisturbed"))


def test_an_interrupted_run_ends_with_the_same_bits(ran: Ran) -> None:
    one, other = (store.manifest(STAGE) for store in ran)
    assert one is not None
    assert other is not None
    assert one.artifacts == other.artifacts
    assert one.outputs == other.outputs
    assert one.measures["pairs"] == other.measures["pairs"] > 0
    assert len(list(ran.run.path("references").iterdir())) == 1


def test_curation_writes_pairs_beside_what_imitation_learns_from(ran: Ran) -> None:
    run, folder = ran.run, "rungs/0-small/dpo"
    pairs = records.read(run.file(f"{folder}/pairs.parquet"), Pair)
    chosen = {one.id: one for one in records.read(run.file(f"{folder}/curated.parquet"), Example)}
    rejected = {one.id: one for one in records.read(run.file(f"{folder}/rejected.parquet"), Example)}
    problems = {one.id: one for one in records.read(run.file("problems/pool.parquet"), Problem)}
    even = {key for key, one in problems.items() if int(str(one.answer)) % 2 == 0}
    assert {pair.problem_id for pair in pairs} == even
    assert 0 < len(even) < len(problems)
    assert all(chosen[pair.chosen].verdict == "correct" for pair in pairs)
    assert all(rejected[pair.rejected].verdict == "incorrect" for pair in pairs)
    reasons = [row.reason for row in records.read(run.file(f"{folder}/dispositions.parquet"), Disposition)]
    assert reasons.count("nothing_to_reject") == 2 * (len(problems) - len(even))
    curation = run.manifest("rungs/0-small/curation")
    assert curation is not None
    assert curation.measures["kept"] == {"dpo": len(chosen)}
    imitated = run.manifest("rungs/0-small/dpo/stage-1/train")
    assert imitated is not None
    assert imitated.measures["examples"] == len(chosen)
    packed = Packed.load(run.file(f"{folder}/packing.npz"))
    for tokens, segments, verdict in zip(packed.tokens, packed.segments, packed.verdict, strict=True):
        sides = [verdict[segments == number][0] for number in range(1, segments.max() + 1)]
        assert sides == [1, -1] * (len(sides) // 2)
        first = [int(tokens[segments == number][1]) for number in (1, 2)]
        assert first[0] == first[1]  # both begin with the same question


def test_the_journal_begins_at_ln_2_and_the_probe_looks(ran: Ran) -> None:
    lines = journal.read(ran.run.file("rungs/0-small/dpo/metrics.jsonl"))
    assert lines[0]["loss"] == pytest.approx(0.6931, abs=1e-4)
    assert lines[-1]["margin"] > 0
    assert {"pair_accuracy", "chosen_logprob", "rejected_logprob", "gradient_norm", "weight"} <= lines[0].keys()
    looks = journal.read(ran.run.file("rungs/0-small/dpo/probe.jsonl"))
    assert [line["step"] for line in looks] == [0, 2, 4]
    results = files.read_json(ran.run.file("report/results.json"))
    assert "0-small.dpo" in results["models"]
    assert results["rungs"][0]["curation"]["dpo"]["pairs"] > 0


def test_it_is_planned_and_rehearsed(tmp_path: Path) -> None:
    settings = experiment()
    planned = plan(settings, hardware.named("h100:1"), Asked(), tmp_path, lambda line: None)
    programs = {(each.use.program.what, name) for each in planned.programs for name in each.use.models}
    assert {("train step", "0-small.dpo"), ("reference", "0-small.dpo")} <= programs
    small = shrink(settings, tmp_path)
    stage = small.rungs[0].selected_arms[0].train[1]
    assert isinstance(stage, Preference)
    assert stage.loss == Dpo(beta=0.5)
    assert not [line for checked in checks.check(small, tmp_path / small.name) for line in checked.refused]


def test_where_no_pair_is_left_one_sentence_says_so(tmp_path: Path) -> None:
    with pytest.raises(NothingToTrain, match=r"nothing to train on: curation left nothing for the arm 'dpo'.*nothing_to_rej"):
        execute(experiment(right=True), tmp_path / "right", Silent())
    short = dataclasses.replace(PREFERRED, batching=Batching(length=24, rows=2))
    for kind in ("problems", "tokenizer", "sample", "curate", "train"):
        execute(experiment(preference=Preference(training=short)), tmp_path / "short", Silent(), kind=kind)
    skip = skips.of(RunStore(tmp_path / "short").manifest(STAGE))
    assert skip is not None
    assert re.search(r"no pair fits into rows of 24 tokens \(\d+ over length\): both of its traces lie in one row", skip.reason)


@dataclasses.dataclass(frozen=True)
class Unmoved:
    """A loss of a user's own that no log-probability changes."""

    uses_reference: bool = False
    pairs: bool = True

    def __call__(self, sequences: Any) -> Any:
        return 0.0 * sequences.reference[:, 0::2]


def test_a_loss_of_ones_own_is_tried_by_check(tmp_path: Path) -> None:
    settings = experiment(preference=Preference(Unmoved(), training=PREFERRED))
    refused = [line for checked in checks.check(settings, tmp_path / "run") for line in checked.refused]
    assert len(refused) == 1
    assert "Unmoved has no gradient in sequences.logprob, so that nothing is learned from it" in refused[0]


@pytest.mark.parametrize(
    ("arm", "sentence"),
    [
        (
            Arm("dpo", select=Correct(), train=(Preference(),)),
            r"rungs\.0 \(small\): arm 'dpo' has a Preference\(\) stage, which learns from pairs, and Correct\(\) makes none",
        ),
        (Arm("dpo", select=Pairs(), train=(Preference(Gspo()),)), "the loss Gspo is not one on pairs"),
        (
            Arm("dpo", select=Pairs(), train=(Preference(training=Training(reference_top=4)),)),
            r"Preference\.training\.reference_top is 4; it must be 0",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_computed(arm: Arm, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        check(experiment(arms=(arm,)))


def test_a_teacher_of_the_run_has_no_pairs() -> None:
    settings = experiment()
    teacher = ModelTeacher("scribe", SMALL, train=(Preference(),))
    with pytest.raises(UserError, match=r"teachers\.0 \(scribe\) has a Preference\(\) stage, which learns from pairs"):
        check(dataclasses.replace(settings, teachers=(teacher,)))


def test_commands_show_the_pairs(ran: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last test here: from then on the module's classes are also those of the run's copy of it."""
    run, directory = ran.run, str(ran.run.directory)
    pair = records.read(run.file("rungs/0-small/dpo/pairs.parquet"), Pair)[0]
    assert cli.run(["explain", directory, pair.problem_id]) == 0
    shown = capsys.readouterr().out
    assert f"sample 0 of scribe  kept (pair {pair.id}, chosen over sample 1 of scribe)" in shown
    assert f"sample 1 of scribe  the rejected side (pair {pair.id}, rejected for sample 0 of scribe)" in shown
    uses = shown[shown.index("0-small.dpo\n", shown.index("Steps that learnt")) :]
    for trace in (pair.chosen_trace, pair.rejected_trace):
        assert f"trace {trace} of scribe: packed in row" in uses
    assert cli.run(["show", directory, "--arm", "dpo"]) == 0
    assert cli.run(["export", directory, str(tmp_path / "out"), "--model", "0-small.dpo"]) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Dpo" in card
    assert "over pairs of a chosen and a rejected response" in card
    assert cli.run(["reproduce", directory, "--stage", STAGE, "--plain"]) == 0, capsys.readouterr().err
    assert cli.run(["check", directory]) == 0
    capsys.readouterr()
