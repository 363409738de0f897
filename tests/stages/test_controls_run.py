"""Controls of a rung from its files: what they are in memory, after the arms that they name, told by `w2sr explain`."""

import dataclasses
import json
from pathlib import Path

import pytest
from controlled import control
from hand_made import commit, finish
from written_traces import PROBLEMS, trace

from w2sr_jax.answers.grade import NumberGrader
from w2sr_jax.batches.settings import Batching
from w2sr_jax.configuration import saved
from w2sr_jax.core import codec, records
from w2sr_jax.core.errors import NothingToTrain, UserError
from w2sr_jax.core.records import Example, Problem, Trace
from w2sr_jax.curation.altering import AnswerOnly, Audited, StepErrors
from w2sr_jax.curation.arms import Correct, Incorrect, Nothing, Select
from w2sr_jax.curation.controls import Control, Draw, Piece, RandomSubset, Shuffled
from w2sr_jax.curation.dispositions import Disposition
from w2sr_jax.curation.funnel import Funnel
from w2sr_jax.curation.matching import Corrupted, DifficultyMatched, GoldMatched
from w2sr_jax.curation.settings import Curation
from w2sr_jax.experiment import Arm, Experiment, Imitation, ModelTeacher, Rung, check
from w2sr_jax.experiment.policy import OnPolicy
from w2sr_jax.graph.stage import Context, StageResult, settings
from w2sr_jax.graph.store import RunStore
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.token import ReverseKL
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.runs.explain import explain
from w2sr_jax.stages.plan import stages
from w2sr_jax.text import tokenizer
from w2sr_jax.text.settings import WordTokenizer
from w2sr_jax.training.settings import Training

TEACHERS = ("weak", "other")
POOL = [dataclasses.replace(problem, solution=f"{i} + 0 = {i} #### {i}") for i, problem in enumerate(PROBLEMS[:20])]
CURATION = Curation(per_problem=2, limit=12)
TRAINING = Training(steps=12, batching=Batching(length=60, rows=4))
CONTROLS: dict[str, Control] = {
    "gold-same": GoldMatched(),
    "random": RandomSubset(),
    "as-hard": DifficultyMatched(among="others"),
    "shuffled": Shuffled(),
    "answers": AnswerOnly(),
    "half-wrong": Corrupted(wrong=0.5),
    "slips": StepErrors(share=0.5, carry=True),
    "audited": Audited(of="incorrect"),
}


def written() -> dict[str, list[Trace]]:
    """Two teachers, of whose three traces to a problem one or two are right, with a step that holds."""

    def one(teacher: str, place: int, problem: Problem, sample: int) -> Trace:
        verdict = ("correct", "incorrect", "correct")[(place + sample + TEACHERS.index(teacher)) % 3]
        answer = place if verdict == "correct" else place + 20
        return trace(problem, sample, verdict, teacher, f"{place} + {sample} = {place + sample} ; so #### {answer}")

    return {teacher: [one(teacher, i, problem, n) for i, problem in enumerate(POOL) for n in range(3)] for teacher in TEACHERS}


def experiment(arms: tuple[Arm | str, ...], curation: Curation = CURATION) -> Experiment:
    rung = Rung("small", ModelConfig(), teachers=TEACHERS, curation=curation, arms=arms, training=TRAINING)
    return Experiment("x", (rung,), tuple(map(ModelTeacher, TEACHERS)), grader=NumberGrader())


def every() -> tuple[Arm | str, ...]:
    return (*(Arm(name, select=select) for name, select in CONTROLS.items()), "correct", "incorrect")


def curated(folder: Path, of: Experiment) -> StageResult:
    for split, rows in (("pool", POOL), ("test", PROBLEMS[20:25]), ("probe", PROBLEMS[25:])):
        records.write(folder / "problems" / f"{split}.parquet", Problem, rows)
    for teacher, traces in written().items():
        records.write(folder / "teachers" / teacher / "rung-0" / "traces-00000.parquet", Trace, traces)
    texts = [*(problem.question for problem in POOL), *(one.text for rows in written().values() for one in rows)]
    tokenizer.build(WordTokenizer(largest=60), texts).save(folder / "tokenizer")
    finish(folder)
    return stages(of).curations[0].run(Context(RunStore(folder)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "x"
    of = experiment(every())
    check(of)
    saved.save(folder, of)
    result = curated(folder, of)
    assert set(result.measures["kept"]) == {"correct", "incorrect", "gold", *CONTROLS}
    assert all(path.is_file() for path in result.outputs)
    commit(folder, "rungs/0-small/curation", "curate", result.outputs, measures=result.measures)
    return folder


@pytest.mark.parametrize("name", CONTROLS)
def test_files_hold_what_is_made_in_memory(made: Path, name: str) -> None:
    traces = [one for rows in written().values() for one in rows]
    expected = control(CONTROLS[name], POOL, traces, CURATION)
    folder = made / "rungs" / "0-small"
    stored = records.read(folder / name / "curated.parquet", Example)
    assert stored
    same = ("id", "problem_id", "trace_id", "teacher", "question", "response", "verdict", "style")
    if name != "slips":  # whose texts depend on what the tokenizer knows
        assert [[getattr(one, field) for field in same] for one in stored] == [
            [getattr(one, field) for field in same] for one in expected.examples
        ]
    rows = records.read(folder / name / "dispositions.parquet", Disposition)
    assert [(row.trace_id, row.reason) for row in rows] == [(row.trace_id, row.reason) for row in expected.dispositions]
    funnel = codec.read(dict[str, Funnel], folder / "curation.json")[name]
    assert funnel.rejections == expected.funnel.rejections
    assert funnel.control is not None
    assert funnel.control.counts == expected.counts
    assert funnel.control.examples == len(stored)


def test_altered_texts_are_spelt_in_the_tokenizers_words_and_graded_by_the_runs_grader(made: Path) -> None:
    stored = records.read(made / "rungs/0-small/slips/curated.parquet", Example)
    spelled = tokenizer.load(made / "tokenizer")
    texts = {one.id: one.text for rows in written().values() for one in rows}
    grader, problems = NumberGrader(), {problem.id: problem for problem in POOL}
    altered = [one for one in stored if one.response != texts[one.trace_id]]
    counts = codec.read(dict[str, Funnel], made / "rungs/0-small/curation.json")["slips"].control
    assert counts is not None
    assert len(altered) == counts.counts["altered"] > 0
    for one in stored:
        assert spelled.unknown not in spelled.encode([one.response])[0]
        assert one.verdict == grader(one.response, problems[one.problem_id]).verdict


def test_what_became_of_a_trace_and_what_a_student_learns_is_told(made: Path) -> None:
    def told(problem: str) -> str:
        lines: list[str] = []
        explain(made, problem, lines.append)
        return "\n".join(lines)

    folder = made / "rungs" / "0-small"
    corrupted = next(
        one for one in records.read(folder / "half-wrong" / "curated.parquet", Example) if one.verdict == "incorrect"
    )
    text = told(corrupted.problem_id)
    assert "left out at “control half-wrong”: replaced" in text
    assert f"trace {corrupted.trace_id} of {corrupted.teacher}" in text.partition("0-small.half-wrong")[2]
    gold = records.read(folder / "gold-same" / "curated.parquet", Example)[0]
    text = told(gold.problem_id)
    assert "left out at “control gold-same”: gold instead" in text
    assert "its solution" in text.partition("0-small.gold-same")[2].partition("0-small.")[0]


def test_an_arm_that_is_not_there_is_refused_with_the_nearest_one() -> None:
    def refusal(*arms: Arm | str) -> str:
        with pytest.raises(UserError) as refused:
            check(experiment(arms))
        return str(refused.value)

    assert refusal("correct", Arm("r", select=RandomSubset(of="corect"))) == (
        "rungs.0 (small): the arm 'r' is made from the arm 'corect', and the rung has none of that name that learns from traces; "
        "did you mean 'correct'?"
    )
    assert "there are none" in refusal(Arm("r", select=RandomSubset(of="r2")))
    two = (Arm("r", select=RandomSubset()), Arm("s", select=Shuffled(of="r")))
    assert refusal("correct", *two).endswith(
        "is made from the arm 'r', which is made from another one itself; name one of correct"
    )
    nothing = Arm("policy", select=Nothing(), train=(OnPolicy(),))
    assert "has none of that name that learns from traces; there are correct" in refusal(
        "correct", nothing, Arm("s", select=Shuffled(of="policy"))
    )


def test_a_control_of_an_empty_arm_has_its_reason_and_leaves_the_others(tmp_path: Path) -> None:
    of = experiment(("correct", Arm("s", select=Shuffled())), Curation(max_characters=3))
    with pytest.raises(NothingToTrain, match="'correct'"):
        curated(tmp_path / "nothing", dataclasses.replace(of, rungs=(dataclasses.replace(of.rungs[0], gold=False),)))
    result = curated(tmp_path / "gold", of)
    assert result.measures["emptied"]["s"] == "the arm 's' (s) is made from what 'correct' keeps, and that is nothing"
    assert result.measures["kept"] == {"correct": 0, "s": 0, "gold": len(POOL)}


def test_a_control_that_cannot_be_as_large_as_its_arm_says_so(tmp_path: Path) -> None:
    of = experiment(("correct", Arm("g", select=DifficultyMatched(among="gold"))), Curation(limit=19))
    result = curated(tmp_path, of)
    kept = result.measures["kept"]
    assert 0 < kept["g"] < kept["correct"] == 19
    assert result.note.endswith(f"g has {kept['g']} for the 19 of correct")


def test_the_grader_counts_only_where_texts_are_graded_again() -> None:
    plain = stages(experiment(("correct", Arm("r", select=RandomSubset())))).curations[0]
    again = stages(experiment(("correct", Arm("s", select=Shuffled())))).curations[0]
    assert "grader" not in settings(plain)
    assert "NumberGrader" in json.dumps(settings(again)["grader"])


def test_nobody_is_asked_for_a_distribution_of_worked_solutions() -> None:
    arms = (Arm("g", select=GoldMatched(), train=(Imitation(objective=Objective(ReverseKL("teacher"))),)), "correct")
    trained = stages(experiment(arms)).trainings
    assert trained["0-small.g"].untaught
    assert not trained["0-small.g"].others
    assert not trained["0-small.correct"].untaught


@dataclasses.dataclass(frozen=True)
class Foreign(Control):
    """Draws a trace under a problem that did not write it."""

    def draw(self, rows: object, settings: Curation) -> Draw:
        return Draw({POOL[0].id: [Piece("not there", POOL[0].id)]}, {}, {})


def test_what_is_not_there_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Foreign.draw has drawn .*'not there'"):
        curated(tmp_path, experiment(("correct", Arm("f", select=Foreign()))))


def test_arms_without_controls_are_selected_as_before() -> None:
    selects: tuple[Select, ...] = (Correct(), Incorrect(), Nothing())
    assert all(one.made_from is None and not one.regrades and not one.untaught for one in selects)
