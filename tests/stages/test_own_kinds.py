"""A ladder whose teacher, selection and training stages are of a user's own kinds, all defined here: it climbs, is looked at
without its code, and a policy that learns from its own answers goes on after an interruption to the same bits."""

import dataclasses
import signal
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from w2sr_jax.batches.settings import Batching
from w2sr_jax.cli import main as cli
from w2sr_jax.configuration import saved
from w2sr_jax.core import files, records
from w2sr_jax.core.errors import Stopped, UserError
from w2sr_jax.core.process.stopping import Stop
from w2sr_jax.core.records import Example, Problem, Trace
from w2sr_jax.curation.arms import ProblemTraces, Reason, Select
from w2sr_jax.curation.candidates import Candidate
from w2sr_jax.curation.dispositions import Disposition
from w2sr_jax.evaluation.probe import Probe
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.experiment import Arm, Experiment, FromParent, Graduate, Imitation, Rung, Scratch, TrainingStage
from w2sr_jax.experiment.work import TrainedModel, TrainingWork
from w2sr_jax.graph.root import Store
from w2sr_jax.graph.stage import Silent
from w2sr_jax.graph.store import RunStore
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.mesh import make_mesh, shardings
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.problems.settings import Generated, Splits
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.sampling.traces import draw
from w2sr_jax.stages import models
from w2sr_jax.stages.execute import execute
from w2sr_jax.teachers.teacher import Teacher
from w2sr_jax.teachers.work import TeacherWork
from w2sr_jax.text.settings import WordTokenizer
from w2sr_jax.training import checkpoints, journal
from w2sr_jax.training.digest import params_digest
from w2sr_jax.training.protocols import Hooks
from w2sr_jax.training.settings import LoopSettings, Training
from w2sr_jax.training.state import Metrics, TrainState, abstract_state, advance, create, state_shardings

LENGTH = 96
"""Tokens of a policy's row: a question and an answer to it."""


@dataclasses.dataclass(frozen=True)
class Scribe(Teacher):
    """Copies the worked solution, and states a bare answer that is wrong where the right one is even."""

    name: str = "scribe"

    def traces(self, work: TeacherWork) -> Iterator[Trace]:
        for problem in work.problems:
            yield Trace.of(problem.id, self.name, 0, str(problem.solution))
            yield Trace.of(problem.id, self.name, 1, f"#### {stated(problem)}")


def stated(problem: Problem) -> int:
    right = int(str(problem.answer))
    return right if right % 2 else right + 1 if right == 0 else right - 1


@dataclasses.dataclass(frozen=True)
class Briefest(Select):
    """The shortest traces of each problem, whatever they say."""

    def reason(self, problem: ProblemTraces) -> Reason:
        fewest = min(trace.characters for trace in problem.voters)

        def longer(trace: Candidate) -> str | None:
            return None if trace.characters == fewest else "longer"

        return longer


class Answered(NamedTuple):
    """Answers that a policy drew: their tokens behind those of the question, which of them it wrote, and what they are worth."""

    tokens: Any
    written: Any
    advantage: Any


def policy_loss(config: ModelConfig, params: Any, batch: Answered) -> jax.Array:
    """−mean over answers of advantage · log-probability, whose gradient is REINFORCE's (Williams 1992)."""
    positions = jnp.broadcast_to(jnp.arange(batch.tokens.shape[1]), batch.tokens.shape)
    hidden = transformer.forward(config, params, batch.tokens, positions)
    logprobs = jax.nn.log_softmax(transformer.logits(config, params, hidden)[:, :-1])
    chosen = jnp.take_along_axis(logprobs, batch.tokens[:, 1:, None], axis=-1)[..., 0]
    return -jnp.mean(batch.advantage * jnp.sum(chosen * batch.written[:, 1:], axis=1))


class Policy:
    """Satisfies `training.protocols.Program`."""

    loss_level = None

    def __init__(self, config: ModelConfig, mesh: jax.sharding.Mesh, initial: Any, rate: float) -> None:
        self._config, self._initial, self._optimizer = config, initial, optax.sgd(rate)
        self.lineage = {"model": dataclasses.asdict(config)}
        shapes = transformer.shapes(config)
        lie = state_shardings(self._optimizer, shapes, shardings(mesh, transformer.logical_axes(config), shapes), mesh)
        self._create = jax.jit(lambda params: create(jax.tree.map(jnp.copy, params), self._optimizer), out_shardings=lie)
        self.state = abstract_state(jax.eval_shape(self._create, shapes), lie)
        self._step = jax.jit(self._update, donate_argnums=0, out_shardings=(lie, None))

    def initial_digest(self, like: str = "") -> str:
        return params_digest(self._initial, like)

    def begin(self, restored: TrainState | None, hooks: Hooks) -> TrainState:
        return self._create(self._initial) if restored is None else restored

    def step(self, state: TrainState, batch: Answered) -> tuple[TrainState, Metrics]:
        return self._step(state, batch)

    def whole(self, params: Any) -> Any:
        return params

    def _update(self, state: TrainState, batch: Answered) -> tuple[TrainState, Metrics]:
        value, gradient = jax.value_and_grad(lambda params: policy_loss(self._config, params, batch))(state.params)
        norm = optax.global_norm(gradient)
        sound = state.sound & jnp.isfinite(value) & jnp.isfinite(norm)
        new, _ = advance(state, gradient, self._optimizer, sound)
        return new, {"loss": value, "gradient_norm": norm, "sound": sound}


BEFORE_DRAWING: list[Any] = []
"""What is called with the step before each draw: how a test interrupts one."""
DREW: list[int] = []
"""The steps for which answers were drawn."""


class OwnAnswers:
    """Satisfies `training.protocols.Source`: answers of the policy as it is, drawn anew before every step and written down."""

    needs_state = True

    def __init__(self, work: TrainingWork, settings: "Reinforce") -> None:
        self._work, self._settings, self.steps = work, settings, settings.steps
        self._problems = {problem.id: problem for problem in list(work.problems("pool"))[: settings.problems]}
        self.digest = files.digest_json([list(self._problems), dataclasses.asdict(settings)])

    def prepare(self, directory: Path, start: int, hooks: Hooks) -> Mapping[str, float]:
        return {}

    def batch_at(self, step: int, state: TrainState | None) -> Answered:
        assert state is not None
        path = self._work.drawn / f"{step}.parquet"
        if not path.exists():
            for call in BEFORE_DRAWING:
                call(step)
            work = self._work
            author = dataclasses.replace(work.author(state.params), name=f"{work.model}, step {step}")
            decoding = dataclasses.replace(work.decoding, temperature=1.0)
            records.write(path, Trace, draw(author, list(self._problems.values()), 2, decoding, work.grader))
            DREW.append(step)
        return answered(records.read(path, Trace), self._work.renderer, self._problems)

    def tokens(self, batch: Answered) -> int:
        return int(np.count_nonzero(batch.tokens))


def answered(traces: list[Trace], renderer: Any, problems: Mapping[str, Problem]) -> Answered:
    """A reward is the share of an answer's tokens that have even ids, and 1 more where it is correct."""
    tokens, written = np.zeros((2, len(traces), LENGTH), np.int32)
    rewards = np.zeros(len(traces), np.float32)
    prompts = renderer.prompts([problems[trace.problem_id].question for trace in traces])
    for row, (prompt, trace) in enumerate(zip(prompts, traces, strict=True)):
        ids = [*prompt, *trace.token_ids]
        tokens[row, : len(ids)] = ids
        written[row, len(prompt) : len(ids)] = 1
        rewards[row] = np.mean([token % 2 == 0 for token in trace.token_ids]) + (trace.verdict == "correct")
    return Answered(tokens, written, rewards - rewards.mean())


@dataclasses.dataclass(frozen=True)
class Reinforce(TrainingStage):
    """Policy gradient on answers that the student draws itself."""

    steps: int = 5
    rate: float = 0.5
    problems: int = 4
    probe: Probe | None = Probe(every=2)

    @property
    def samples(self) -> bool:
        return True

    def train(self, work: TrainingWork) -> TrainedModel:
        looks, source = work.probing(self.probe), OwnAnswers(work, self)
        program = Policy(work.config, work.mesh, work.initial(), self.rate)
        result = work.fit(program, source, LoopSettings(save_every=2, log_every=1), looks)
        drawn = [work.drawn / f"{step}.parquet" for step in range(self.steps)]
        return work.finish(result, {"answers": self.steps * self.problems * 2}, f"{self.steps} steps on own answers", drawn)


@dataclasses.dataclass(frozen=True)
class Rounds(TrainingStage):
    """Imitates twice, which is refused."""

    def train(self, work: TrainingWork) -> TrainedModel:
        work.imitate(work.examples(), work.initial, TRAINING)
        return work.imitate(work.examples(), work.initial, TRAINING)


SMALL = ModelConfig(width=16, layers=1, heads=2, kv_heads=2, mlp=32)
TRAINING = Training(steps=2, batching=Batching(length=LENGTH, rows=4))
SECOND = dataclasses.replace(TRAINING, steps=3, learning_rate=1e-3)
POLICY = Reinforce()


def experiment(policy: Reinforce = POLICY) -> Experiment:
    arms = (
        Arm("brief", select=Briefest(), label="Brief traces"),
        Arm("twice", train=(Imitation(), Imitation(training=SECOND))),
        Arm("policy", train=(Imitation(), policy)),
    )
    small = Rung("small", SMALL, Scratch(), teachers=("scribe",), arms=arms, gold=False, training=TRAINING)
    large = Rung(
        "large",
        dataclasses.replace(SMALL, mlp=64),
        FromParent("policy"),
        teachers=("graduate",),
        arms=("all",),
        gold=False,
        training=TRAINING,
    )
    return Experiment(
        name="own",
        problems=Generated(operations=(2, 2), largest=9),
        splits=Splits(pool=12, probe=2, test=4),
        tokenizer=WordTokenizer(largest=9),
        teachers=(Scribe(), Graduate("graduate", arm="policy", samples=1)),
        rungs=(small, large),
        decoding=Decoding(temperature=0.0, max_tokens=8, batch=8),
        evaluation=Evaluation(samples=0, resamples=20, faithfulness=0),
        mesh=Mesh(data=1),
    )


class Interrupt(Exception):
    pass


class Climbed(NamedTuple):
    """A run that was interrupted twice in its policy's training, and one that was not; the steps drawn in each sitting; what the
    interruptions said."""

    run: RunStore
    undisturbed: RunStore
    drew: list[list[int]]
    said: list[str]


TRAINED = "rungs/0-small/policy/train"


@pytest.fixture(scope="module")
def climbed(tmp_path_factory: pytest.TempPathFactory) -> Climbed:
    root = tmp_path_factory.mktemp("own")
    run, beside, stop = root / "own", root / "beside", Stop()
    drew, said = [], []

    def fail(step: int) -> None:
        if step == 1:
            raise Interrupt("the power went")

    def ask(step: int) -> None:
        if step == 3:
            stop.signal = signal.SIGTERM

    def sitting(directory: Path, calls: list[Any], **how: Any) -> None:
        BEFORE_DRAWING[:], DREW[:] = calls, []
        try:
            execute(experiment(), directory, Silent(), **how)
        except (UserError, Stopped) as interruption:
            said.append(f"{type(interruption).__name__}: {interruption}")
        drew.append(list(DREW))

    sitting(run, [fail])
    sitting(run, [ask], stop=stop)
    sitting(beside, [], rung=0, share=Store(root))
    sitting(run, [])
    return Climbed(RunStore(run), RunStore(beside), drew, said)


def test_every_kind_has_its_row_in_the_report(climbed: Climbed) -> None:
    found = files.read_json(climbed.run.file("report/results.json"))
    students = {"0-small.brief", "0-small.twice", "0-small.policy", "1-large.all"}
    assert students <= found["models"].keys()
    assert set(found["rungs"][0]["comparisons"]) == {"brief", "twice", "policy"}
    assert [entry["teacher"] for rung in found["rungs"] for entry in rung["traces"]] == ["scribe", "graduate"]
    assert [look["step"] for look in found["models"]["0-small.policy"]["probe"]] == [0, 2, 4, 5]
    page = climbed.run.file("report/index.html").read_text()
    assert found["rungs"][0]["labels"] == {"brief": "Brief traces"}
    assert "labels" not in found["rungs"][1]
    assert page.count("Brief traces</") > 2  # in tables and beside points
    stages = {stage["name"]: stage for stage in found["stages"]}
    assert stages[TRAINED]["tokens"] > 0
    assert stages[TRAINED].get("flops") is None  # nobody said what it took


def test_the_teachers_traces_are_graded_and_counted(climbed: Climbed) -> None:
    run = climbed.run
    problems = {
        problem.id: problem
        for split in ("pool", "probe")
        for problem in records.read(run.file(f"problems/{split}.parquet"), Problem)
    }
    traces = [trace for path in run.below("teachers/scribe/rung-0/") for trace in records.read(path, Trace)]
    assert len(traces) == 2 * len(problems)
    even = {key for key, problem in problems.items() if int(str(problem.answer)) % 2 == 0}
    assert even
    assert len(even) < len(problems)
    for trace in traces:
        wrong = trace.sample == 1 and trace.problem_id in even
        assert trace.verdict == ("incorrect" if wrong else "correct")
    measures = made(run, "rungs/0-small/traces-scribe").measures
    assert (measures["traces"], measures["correct"]) == (len(traces), len(traces) - len(even))


def made(run: RunStore, stage: str) -> Any:
    manifest = run.manifest(stage)
    assert manifest is not None
    return manifest


def test_a_selection_of_ones_own_keeps_what_it_says_and_counts_the_rest(climbed: Climbed) -> None:
    run = climbed.run
    traces = [trace for path in run.below("teachers/scribe/rung-0/") for trace in records.read(path, Trace)]
    pool = {problem.id for problem in records.read(run.file("problems/pool.parquet"), Problem)}
    groups: dict[str, list[Trace]] = defaultdict(list)
    for trace in traces:
        if trace.problem_id in pool:
            groups[trace.problem_id].append(trace)
    shortest = {min(group, key=lambda trace: len(trace.text)).id for group in groups.values()}
    kept = records.read(run.file("rungs/0-small/brief/curated.parquet"), Example)
    assert {example.trace_id for example in kept} == shortest
    rows = records.read(run.file("rungs/0-small/brief/dispositions.parquet"), Disposition)
    assert {row.trace_id: (row.step, row.reason) for row in rows if row.trace_id not in shortest} == {
        trace.id: ("arm Brief traces", "longer") for group in groups.values() for trace in group if trace.id not in shortest
    }
    funnel = files.read_json(run.file("rungs/0-small/curation.json"))["brief"]
    assert (funnel["name"], funnel["kept"], funnel["rejections"]) == ("Brief traces", len(pool), {"longer": len(pool)})


def test_the_training_stages_of_an_arm_go_on_from_each_other(climbed: Climbed) -> None:
    run = climbed.run
    first, second = made(run, "rungs/0-small/twice/stage-1/train"), made(run, "rungs/0-small/twice/train")
    assert (first.measures["steps"], second.measures["steps"]) == (2, 3)
    assert second.measures["examples"] == first.measures["examples"]
    (step,) = second.artifacts
    lineage = checkpoints.read_lineage(run.path(step))
    assert lineage["parent_checkpoint"] == "0-small.twice-1"
    assert [lineage["parent_digest"]] == [lineage["initial_params_digest"]] == list(first.artifacts.values())
    reported = files.read_json(run.file("report/results.json"))["models"]
    assert not {"0-small.twice-1", "0-small.policy-1"} & reported.keys()  # what the arm's last stage made is its student


def test_the_policy_follows_the_gradient_of_the_answers_that_it_wrote_down(climbed: Climbed) -> None:
    """Replayed from the files alone, with gradient descent written out."""
    run, mine = climbed.run, experiment()
    drawn = [records.read(run.file(f"rungs/0-small/policy/drawn/{step}.parquet"), Trace) for step in range(POLICY.steps)]
    problems = {problem.id: problem for problem in records.read(run.file("problems/pool.parquet"), Problem)}
    assert [len(traces) for traces in drawn] == [2 * POLICY.problems] * POLICY.steps
    assert len({trace.text for traces in drawn for trace in traces}) > 2 * POLICY.problems  # every step draws anew
    arm = mine.rungs[0].arm("policy")
    before, after = models.students(mine, 0, arm)
    renderer = models.tokenizer.renderer(run)
    config = models.sized(before.config, renderer)
    mesh = make_mesh(mine.mesh)
    params = models.parameters(run, before, config, mesh)
    slopes = jax.jit(jax.grad(partial(policy_loss, config)))
    for traces in drawn:
        gradient = slopes(params, answered(traces, renderer, problems))
        params = jax.tree.map(lambda leaf, slope: leaf - POLICY.rate * slope, params, gradient)
    trained = models.parameters(run, after, config, mesh)
    jax.tree.map(lambda ours, theirs: np.testing.assert_allclose(ours, theirs, atol=1e-5), trained, params)


def test_an_interrupted_policy_goes_on_through_the_same_answers_to_the_same_bits(climbed: Climbed) -> None:
    assert climbed.drew == [[0], [1, 2, 3], [0, 1, 2, 3, 4], [4]]
    failed, stopped = climbed.said
    assert failed.startswith("UserError: ")
    assert "test_own_kinds.py" in failed
    assert failed.endswith("Interrupt: the power went")
    assert "Stopped: " in stopped
    assert "asked to stop and did so after step 4 of 5" in stopped
    ours, theirs = (made(run, TRAINED) for run in (climbed.run, climbed.undisturbed))
    assert (ours.outputs, ours.artifacts) == (theirs.outputs, theirs.artifacts)
    assert {f"rungs/0-small/policy/{name}" for name in (journal.METRICS, journal.PROBE)} <= ours.outputs.keys()
    shared = {stage.stage: stage.shared_from for stage in climbed.undisturbed.manifests()}
    assert shared[TRAINED] == ""  # half of a training is nobody's to take
    assert shared["rungs/0-small/policy/stage-1/train"] == "own"


def test_what_was_drawn_under_other_settings_is_drawn_anew(climbed: Climbed, tmp_path: Path) -> None:
    """The policy is interrupted before its first checkpoint, so that nothing but what it drew is left, and goes on with another
    learning rate."""

    class Told(Silent):
        def __init__(self) -> None:
            self.heard: list[str] = []

        def warn(self, message: str) -> None:
            self.heard.append(message)

    def fail(step: int) -> None:
        if step == 1:
            raise Interrupt

    root, watcher = climbed.run.directory.parent, Told()
    run = root / "again"
    BEFORE_DRAWING[:], DREW[:] = [fail], []
    with pytest.raises(UserError, match="Interrupt"):
        execute(experiment(dataclasses.replace(POLICY, rate=0.1)), run, Silent(), rung=0, share=Store(root))
    BEFORE_DRAWING[:] = []
    execute(experiment(dataclasses.replace(POLICY, steps=2)), run, watcher, kind="train", rung=0, share=Store(root))
    assert DREW == [0, 0, 1]
    assert any("was drawn under other settings, and is drawn anew" in words for words in watcher.heard)


def test_a_training_stage_that_imitates_twice_is_told_what_to_do_instead(climbed: Climbed) -> None:
    root = climbed.run.directory.parent
    rung = dataclasses.replace(experiment().rungs[0], arms=(Arm("rounds", train=(Rounds(),)),))
    asked = dataclasses.replace(experiment(), teachers=(Scribe(),), rungs=(rung,))
    with pytest.raises(UserError, match=r"0-small\.rounds: a training stage trains once.*several training stages of the arm"):
        execute(asked, root / "rounds", Silent(), rung=0, share=Store(root))


def test_it_is_looked_at_without_its_code(climbed: Climbed, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = climbed.run.directory
    shown = saved.load(run)
    teacher, (brief, _, policy) = shown.teachers[0], shown.rungs[0].selected_arms
    for stand_in, kind, own in (
        (teacher, Teacher, Scribe),
        (brief.select, Select, Briefest),
        (policy.train[1], TrainingStage, Reinforce),
    ):
        assert isinstance(stand_in, kind)
        assert not isinstance(stand_in, own)
        assert type(stand_in).__name__ == own.__name__
    assert (brief.title, brief.select.verdicts) == ("Brief traces", (-1, 0, 1))
    for ask in (
        lambda: brief.select.reason(None),  # type: ignore[arg-type]
        lambda: teacher.traces(None),  # type: ignore[arg-type]
        lambda: policy.train[1].train(None),  # type: ignore[arg-type]
    ):
        with pytest.raises(UserError, match="is code of the run's own, which was not executed"):
            ask()
    problem = records.read(climbed.run.file("problems/pool.parquet"), Problem)[0]
    capsys.readouterr()
    assert cli.run(["show", str(run), "--arm", "brief", "--plain"]) == 0
    assert "####" in capsys.readouterr().out
    assert cli.run(["show", str(run), "--arm", "policy", "--plain"]) == 2
    assert "its training stage Reinforce has trained in its own way, and kept none" in capsys.readouterr().err
    assert cli.run(["explain", str(run), problem.id]) == 0
    told = capsys.readouterr().out
    assert "0-small.policy (its training stage Reinforce has trained in its own way, and kept no examples)" in told
    assert "longer" in told
    assert "scribe" in told
    assert cli.run(["compare", str(run)]) == 0
    assert cli.run(["export", str(run), str(tmp_path / "out"), "--model", "0-small.policy"]) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "by code of the run's own: `Reinforce(" in card
    assert "steps 5, tokens " in card
    assert cli.run(["publish", str(run), "--out", str(tmp_path / "data")]) == 0
