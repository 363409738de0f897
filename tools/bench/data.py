"""The data pipeline: questions with traces to packed batches, reading traces, grading them.

python tools/bench/data.py
python tools/bench/data.py --quick          # does it run?
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import numpy as np
from harness import Found, Job, Line, Subject
from peers import hf_model, trl_settings
from shapes import ROW, lengths

OURS, TRL, DATASETS, MATH_VERIFY = "w2sr_jax", "TRL and datasets", "datasets", "math-verify alone"

ABOUT = (
    "Examples are questions with traces of the lengths of real ones, as text. Both sides tokenize with the same byte-level "
    "BPE vocabulary of 4,096 (both call the same Rust library), mark what is learnt (the trace, not the question), pack best- "
    "fit-decreasing into rows of 512 and hand out every batch of 8 rows once. Ours is `encode`, `pack`, `batch_at`; TRL's is "
    "`SFTTrainer`'s preparation of prompt-completion data with bfd packing and its data loader. Peak memory is above imports.",
    "Reading: traces with their token ids and log-probabilities from Parquet into Python objects; `datasets` reads the same "
    "file row by row. Grading: final answers against gold, nine in ten numbers and the others fractions, roots and "
    "percentages; ours with one worker process that can be killed, math-verify called directly.",
)


def pack(count: int) -> Found:
    from w2sr_jax.batches import encode, packing
    from w2sr_jax.batches.batch import Batches
    from w2sr_jax.batches.settings import Batching
    from w2sr_jax.core.records import Example
    from w2sr_jax.text.render import Renderer

    rows = _texts(count)
    renderer = Renderer(_tokenizer())
    examples = [
        Example(str(index), str(index), "", "teacher", question, trace, "reason", "correct", 1.0)
        for index, (question, trace) in enumerate(rows)
    ]
    before = harness.memory()
    start = time.perf_counter()
    encoded, _ = encode.encode(examples, renderer, ROW)
    encoding = time.perf_counter()
    packed = packing.pack(encoded, ROW, renderer.pad)
    packing_done = time.perf_counter()
    batches = Batches(packed, Batching(ROW, 8))
    for step in range(batches.steps_per_epoch):
        batches.batch_at(step)
    end = time.perf_counter()
    return _packed(count, len(packed.tokens), encoding - start, packing_done - encoding, end - packing_done, before)


def trl(count: int) -> Found:
    import datasets
    from transformers import AutoTokenizer, Qwen2ForCausalLM
    from trl import SFTTrainer

    del Qwen2ForCausalLM
    datasets.disable_progress_bars()
    rows = _texts(count)
    with trl_settings(max_length=ROW, per_device_train_batch_size=8) as settings:
        _tokenizer().save(Path(settings.output_dir))
        words = AutoTokenizer.from_pretrained(settings.output_dir)
        model = hf_model("tiny")

        def trainer(given: list[tuple[str, str]]) -> Any:
            data = datasets.Dataset.from_dict({"prompt": [row[0] for row in given], "completion": [row[1] for row in given]})
            return SFTTrainer(model, settings, train_dataset=data, processing_class=words)

        trainer(rows[:16])  # what starting the trainer costs is not the data's
        before = harness.memory()
        start = time.perf_counter()
        made = trainer(rows)
        prepared = time.perf_counter()
        for _ in made.get_train_dataloader():
            pass
        end = time.perf_counter()
    return _packed(count, len(made.train_dataset), prepared - start, 0.0, end - prepared, before)


def read(count: int) -> Found:
    from w2sr_jax.core import records

    path = _parquet(count)
    before = harness.memory()
    start = time.perf_counter()
    kept = sum(1 for _ in records.iterate(path, records.Trace))
    return _rate("reading traces", kept, time.perf_counter() - start, before)


def read_datasets(count: int) -> Found:
    import datasets

    datasets.disable_progress_bars()
    path = _parquet(count)
    with tempfile.TemporaryDirectory() as folder:
        before = harness.memory()
        start = time.perf_counter()
        table = datasets.Dataset.from_parquet(str(path), cache_dir=folder)
        kept = sum(1 for _ in table)
        return _rate("reading traces", kept, time.perf_counter() - start, before)


def grade(count: int) -> Found:
    from w2sr_jax.answers.grade import grade as graded

    pairs = _answers(count)
    before = harness.memory()
    start = time.perf_counter()
    verdicts = graded(pairs, workers=1)
    seconds = time.perf_counter() - start
    found = _rate("grading answers", count, seconds, before)
    found["grading answers"]["correct"] = sum(verdict.verdict == "correct" for verdict in verdicts)
    return found


def grade_math_verify(count: int) -> Found:
    from math_verify import parse, verify

    pairs = _answers(count)
    before = harness.memory()
    start = time.perf_counter()
    correct = sum(bool(verify(parse(f"${gold}$"), parse(text))) for text, gold in pairs)
    found = _rate("grading answers", count, time.perf_counter() - start, before)
    found["grading answers"]["correct"] = correct
    return found


def jobs(quick: bool) -> list[Job]:
    documents, traces, answers = (200, 500, 50) if quick else (10_000, 20_000, 2_000)
    return [
        Job(OURS, "pack", {"count": documents}),
        Job(TRL, "trl", {"count": documents}),
        Job(OURS, "read", {"count": traces}),
        Job(DATASETS, "read_datasets", {"count": traces}),
        Job(OURS, "grade", {"count": answers}),
        Job(MATH_VERIFY, "grade_math_verify", {"count": answers}),
    ]


def lines(quick: bool) -> list[Line]:
    del quick
    packing, reading, grading = "encode, pack, batch", "reading traces", "grading answers"
    return [
        Line("encode, pack, batch", packing, "per_s", "documents/s", peers=(TRL,)),
        Line("encode and pack", packing, "prepared_per_s", "documents/s", peers=(TRL,)),
        Line("batches alone", packing, "batched_per_s", "documents/s", peers=(TRL,)),
        Line("peak memory", packing, "memory_mb", "MB", "lower", peers=(TRL,)),
        Line("read traces", reading, "per_s", "traces/s", peers=(DATASETS,)),
        Line("grade answers", grading, "per_s", "answers/s", peers=(MATH_VERIFY,)),
    ]


def _packed(count: int, rows: int, encoding: float, packing: float, batching: float, before: float) -> Found:
    preparing = encoding + packing
    return {
        "encode, pack, batch": {
            "per_s": count / (preparing + batching),
            "prepared_per_s": count / preparing,
            "batched_per_s": count / batching,
            "rows": rows,
            "memory_mb": harness.memory("VmHWM") - before,
        }
    }


def _rate(case: str, count: int, seconds: float, before: float) -> Found:
    return {case: {"per_s": count / seconds, "count": count, "memory_mb": harness.memory("VmHWM") - before}}


def _texts(count: int) -> list[tuple[str, str]]:
    """Questions and traces of made-up words, numbers and marks, a third of it the question."""
    rng = np.random.default_rng(3)
    letters = np.array(list("etaoinshrdlcumwfgypb"))
    words = ["".join(rng.choice(letters, size)) for size in rng.integers(2, 9, 3000)]
    vocabulary = np.array([*words, *map(str, range(100)), "=", "+", "$", "."])
    chance = 1 / np.arange(1, len(vocabulary) + 1) ** 0.9
    order = rng.permutation(len(vocabulary))
    found = []
    for length in lengths(count, 400):
        drawn = vocabulary[order[rng.choice(len(vocabulary), int(length), p=chance / chance.sum())]].tolist()
        third = max(1, int(length) // 3)
        found.append((" ".join(drawn[:third]) + "?", " ".join(drawn[third:]) + f"\n#### {length}"))
    return found


def _tokenizer() -> Any:
    """A BPE vocabulary from 2,000 of the texts, made once for all processes of a measurement."""
    from w2sr_jax.text.settings import BpeTokenizer
    from w2sr_jax.text.tokenizer import build
    from w2sr_jax.text.trained import Trained

    folder = Path(os.environ[harness.SCRATCH]) / "tokenizer"
    if not (folder / "tokenizer.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        build(BpeTokenizer(4096), [f"{question}\n{trace}" for question, trace in _texts(2000)]).save(folder)
    return Trained.load(folder)


def _parquet(count: int) -> Path:
    """A table of traces with token ids and log-probabilities, made once for all processes of a measurement."""
    from w2sr_jax.core import records

    path = Path(os.environ[harness.SCRATCH]) / f"traces-{count}.parquet"
    if not path.exists():
        rng = np.random.default_rng(4)

        def trace(index: int, text: str) -> records.Trace:
            ids = tuple(rng.integers(0, 32_000, 100).tolist())
            drawn = tuple((-rng.random(100)).astype(np.float32).tolist())
            return records.Trace(
                f"t{index}",
                f"p{index // 4}",
                "teacher",
                index % 4,
                text,
                "1",
                "correct",
                "stop",
                100,
                -0.5,
                "bench",
                token_ids=ids,
                logprobs=drawn,
            )

        path.parent.mkdir(parents=True, exist_ok=True)
        records.write(path, records.Trace, (trace(index, text) for index, (_, text) in enumerate(_texts(count))))
    return path


def _answers(count: int) -> list[tuple[str, str]]:
    """(text, gold) pairs; every third answer is wrong."""
    rng = np.random.default_rng(5)
    forms: list[Callable[[int, int], str]] = [
        lambda a, b: rf"\frac{{{a}}}{{{b}}}",
        lambda a, b: rf"{a}\sqrt{{{b}}}",
        lambda a, b: rf"{a}\%",
    ]
    found = []
    for index in range(count):
        a, b = (int(value) for value in rng.integers(2, 2000, 2))
        wrong = int(index % 3 == 0)
        if index % 10:
            found.append((f"We add {a} and {b}, so the answer is\n#### {a * b + wrong}", str(a * b)))
        else:
            form = forms[index // 10 % len(forms)]
            found.append((rf"We divide and find that the answer is $\boxed{{{form(a + wrong, b)}}}$.", form(a, b)))
    return found


WORKS: dict[str, Callable[..., Found]] = {
    "pack": pack,
    "trl": trl,
    "read": read,
    "read_datasets": read_datasets,
    "grade": grade,
    "grade_math_verify": grade_math_verify,
}
SUBJECT = Subject("data", "The data pipeline", ABOUT, jobs, WORKS, lines)

if __name__ == "__main__":
    harness.main(SUBJECT)
