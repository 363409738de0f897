"""The parts of a made-up run that say how weak supervision worked, scored by the real evaluation, and pages with the rows."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from w2sr_jax.core import files
from w2sr_jax.core import keys as randomness
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.evaluation import faithfulness, teachers
from w2sr_jax.evaluation.faithfulness import Faithfulness
from w2sr_jax.evaluation.ledger import CELLS, Answer, Outcome, cells, ledger
from w2sr_jax.evaluation.probe import ProbePoint
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.report.evidence import Evidence, EvidenceRow
from w2sr_jax.report.results import LedgerEntry, SeedProbe, Source, TeachersEntry

COPYING = {"all": 0.42, "correct": 0.2, "incorrect": 0.62}  # how often a wrong teacher is repeated
LEARNT = {"all": 0.78, "correct": 0.88, "incorrect": 0.6}  # how often a right teacher is followed
SETS: tuple[tuple[Literal["training", "held-out"], float], ...] = (("training", 0.08), ("held-out", 0.0))
STEPS = tuple(range(0, 501, 50))
ANSWERS = {
    "correct": "Right answers",
    "incorrect": "Wrong answers",
    "unparsed": "No answer could be read",
    "only_student": "Right where the teacher is wrong",
    "only_teacher": "Wrong where the teacher is right",
}


def source(path: str, rows: int | None = None, where: str | None = None) -> Source:
    return Source(path=path, digest=files.digest_bytes(path.encode()), rows=rows, where=where)


def outcomes(asked: Sequence[Problem], arm: str, rung: int, seed: int, bonus: float) -> list[Outcome]:
    """What teacher, base and student answered; `bonus` makes the student better, as on problems that it has seen."""
    found = []
    for problem in asked:
        rng = randomness.generator(seed, "outcome", arm, rung, problem.id, bonus)

        def wrong(rng: np.random.Generator = rng) -> Answer:
            return Answer(None if rng.random() < 0.06 else f"= {rng.integers(18, 24)}", False)

        right = Answer("correct", True)
        teacher = right if rng.random() < 0.585 else wrong()
        base = right if rng.random() < 0.1 + 0.3 * rung else wrong()
        if teacher.correct:
            student = right if rng.random() < LEARNT[arm] + bonus else wrong()
        else:
            student = teacher if rng.random() < COPYING[arm] else right if rng.random() < 0.62 + bonus else wrong()
        found.append(Outcome(problem.id, teacher, base, student))
    return found


def ledgers(asked: Sequence[Problem], seeds: Sequence[int], settings: Evaluation) -> tuple[list[LedgerEntry], list[Evidence]]:
    entries, pages = [], []
    for rung, (name, teacher) in enumerate((("small", "teacher"), ("medium", "graduate"))):
        for arm in COPYING:
            for which, bonus in SETS:
                drawn = [outcomes(asked, arm, rung, seed, bonus) for seed in seeds]
                key = f"ledger-{rung}-{name}-{arm}-{teacher}-{which}"
                student = f"{rung}-{name}.{arm}"
                files = (source(f"evaluations/{student}/generations.parquet", 5 * len(asked), "sample = -1"),)
                loss = "Nll" if arm != "incorrect" else "Nll + 0.05 · ReverseKL"
                counted = ledger(drawn, which, settings)
                entries.append(LedgerEntry(rung, arm, student, teacher, f"{rung}-{name}.base", loss, counted, key, files))
                pages.append(_ledger_page(key, f"{student}, {which}", asked, drawn))
    return entries, pages


def _ledger_page(key: str, of: str, asked: Sequence[Problem], drawn: Sequence[Sequence[Outcome]]) -> Evidence:
    questions = {problem.id: problem for problem in asked}
    rows = [
        EvidenceRow(
            outcome.problem_id,
            (
                questions[outcome.problem_id].question,
                questions[outcome.problem_id].answer,
                *(given.key and given.key.removeprefix("= ") for given in (outcome.teacher, outcome.base, outcome.student)),
                "16 - 4 = 11 ; 11 * 2 = 22 #### 22",
            ),
            cells(outcome),
        )
        for seed in drawn
        for outcome in seed
    ]
    columns = ("question", "gold", "teacher", "base", "student", "what the teacher wrote")
    about = "What the teacher, the base and the student answered."
    return Evidence(key, f"Error ledger: {of}", about, [source("evaluations/x/generations.parquet", 99)], columns, CELLS, rows)


def compared(asked: Sequence[Problem], settings: Evaluation) -> tuple[TeachersEntry, ...]:
    """Three teachers of very different taste."""
    traces = {
        name: [_trace(problem, name, sample, rate) for problem in asked for sample in range(4)]
        for name, rate in (("teacher", 0.5), ("gemma-2b", 0.33), ("llama2-7b", 0.41))
    }
    several = teachers.compare(traces, asked, settings, 0)
    alone = teachers.compare({"graduate": traces["teacher"]}, asked, settings, 1)
    files = (source("teachers/teacher/rung-0/traces-00000.parquet", 31_000),)
    return tuple(TeachersEntry(one, "teachers-0", files) for one in (several, alone))


def _trace(problem: Problem, name: str, sample: int, rate: float) -> Trace:
    rng = randomness.generator(0, "compared", name, problem.id, sample)
    right = rng.random() < rate
    answer = 24 if right else int(rng.integers(20, 24))
    text = f"{name} says: 16 - 4 = 12 ; 12 * 2 = {answer} and {rng.integers(0, 30)} #### {answer}"
    return Trace(
        f"{name}{sample}", problem.id, name, sample, text, str(answer), "correct" if right else "incorrect", "stop", 9, 0.0, ""
    )


def faithful(count: int, end: float, settings: Evaluation) -> Faithfulness:
    rng = randomness.generator(0, "faithful", end)
    fractions = faithfulness.FRACTIONS
    same = np.stack([rng.random(count) < 0.1 + 0.9 * fraction**1.6 for fraction in fractions], axis=1)
    same[:, -1] = True
    flipped: list[bool | None] = [None if rng.random() < 0.12 else bool(rng.random() < 0.3 + 0.5 * end) for _ in range(count)]
    early = faithfulness.early_answering(same, fractions, settings)
    return Faithfulness(count, early, faithfulness.mistakes(flipped, settings))


def probe(end: float, seeds: Sequence[int]) -> tuple[SeedProbe, ...]:
    def point(step: int, seed: int) -> ProbePoint:
        accuracy = round(end * (1 - float(np.exp(-step / 120))) + 0.03 + 0.01 * float(np.sin(step + seed)), 4)
        induced = None if step == 0 else round(0.3 * (1 - float(np.exp(-step / 200))) * (1.2 - end), 4)
        return ProbePoint(step, accuracy, induced, n=200, n_induced=14)

    return tuple(SeedProbe(seed, point(step, seed)) for seed in seeds for step in STEPS)


def answers(name: str, asked: Sequence[Problem], greedy: Sequence[Trace], teacher: Sequence[Trace]) -> Evidence:
    taught = {trace.problem_id: trace.verdict == "correct" for trace in teacher}
    rows = []
    for problem, trace in zip(asked, greedy, strict=True):
        right = trace.verdict == "correct"
        also = () if taught[problem.id] == right else ("only_student",) if right else ("only_teacher",)
        values = (problem.question, problem.answer, trace.answer, trace.rule, trace.text)
        rows.append(EvidenceRow(problem.id, values, (trace.verdict, *also)))
    columns = ("question", "gold", "answer", "found by", "what it wrote")
    files = [source(f"evaluations/{name}/generations.parquet", 5 * len(asked), "sample = -1")]
    return Evidence(f"answers-{name}", f"Answers: {name}", "Greedy answers to the test problems.", files, columns, ANSWERS, rows)


def curation(asked: Sequence[Problem], rung: str, arm: str) -> Evidence:
    reasons = ("kept", "wrong_verdict", "unfinished")
    rows = [
        EvidenceRow(problem.id, ("teacher", f"arm {arm}", problem.question, "16 - 4 = 12 #### 12"), (reasons[number % 3],))
        for number, problem in enumerate(asked)
    ]
    groups = {"kept": "Kept", "wrong_verdict": "Left out: wrong verdict", "unfinished": "Left out: unfinished"}
    columns = ("teacher", "step", "question", "what it wrote")
    files = [source(f"rungs/{rung}/{arm}/dispositions.parquet", 4000)]
    return Evidence(
        f"curation-{rung}-{arm}", f"Curation: {rung}.{arm}", "What became of each trace.", files, columns, groups, rows
    )


def teacher_page(asked: Sequence[Problem]) -> Evidence:
    names = ("teacher", "gemma-2b", "llama2-7b", "graduate")
    groups = {**{name: f"Traces of {name}" for name in names}, "union": "Right by at least one", "disagree": "Answers differ"}
    rows = [EvidenceRow(problem.id, ("24", "22"), (names[n % 4], "union")) for n, problem in enumerate(asked)]
    return Evidence("teachers-0", "Teachers compared: rung 0", "Traces for probe problems.", [], ("gold", "answer"), groups, rows)
