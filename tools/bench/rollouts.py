"""Rollouts: an engine that stays while its parameters change, beside `generate`, which begins anew at each step.

python tools/bench/rollouts.py              # 20 steps of three ways to draw, some three minutes
python tools/bench/rollouts.py --quick      # does it run?

All ways take turns in one process on one core, and their time is that of the processor: whatever else the machine does counts
little. A step draws with parameters of its own, 8
completions for each of 32 problems. No row has an end token, so that all ways draw the same number of tokens.
"""

import dataclasses
import gc
import json
import logging
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import harness
import jax
import tyro

from w2sr_jax.core.keys import key, keys
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.problems.generated import generate as generate_problems
from w2sr_jax.problems.settings import Generated
from w2sr_jax.sampling.engine import Engine, generate
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.sampling.traces import Author, drawn
from w2sr_jax.text.render import Renderer
from w2sr_jax.text.settings import WordTokenizer
from w2sr_jax.text.tokenizer import build

GENERATE, DRAWN, PLAIN = "generate", "update and drawn", "complete alone"
DECODINGS = {"temperature 1": Decoding(), "0.7": Decoding(temperature=0.7), "1, top-p 0.95": Decoding(top_p=0.95)}
"""By temperature."""


@dataclass(frozen=True)
class Run:
    """What is measured. The model is the student of configs/quickstart.py."""

    problems: int = 32
    samples: int = 8
    tokens: int = 32
    """Of a completion."""
    batch: int = 64
    steps: int = 20
    """Times that each way is measured, after two that warm up."""
    quick: bool = False
    """A small setting."""


class Compiled(logging.Handler):
    """Counts the programs that jax says it compiles."""

    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += record.getMessage().startswith("Compiling")


def main(run: Run) -> None:
    if run.quick:
        run = Run(problems=4, samples=2, tokens=4, batch=8, steps=3)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for name, decoding in DECODINGS.items():
        decoding = dataclasses.replace(decoding, max_tokens=run.tokens, batch=run.batch)
        print(json.dumps({"temperature": name, **measured(run, decoding)}, ensure_ascii=False), flush=True)


def measured(run: Run, decoding: Decoding) -> dict[str, Any]:
    """Medians of new tokens per second, and of the ratios to `generate` in the same step; the programs that were compiled after
    the first two steps; by how many MB the process and its arrays grew over the last half of the steps."""
    compiled = Compiled()
    logging.getLogger("jax").addHandler(compiled)
    logging.getLogger("jax").propagate = False
    with jax.log_compiles():
        ways, weights = _ways(run, decoding)
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        at_first, sizes = 0, list[tuple[float, float]]()
        for step in range(run.steps + 2):
            at_first = compiled.count if step == 2 else at_first
            turn = step % len(ways)
            for name in [*ways][turn:] + [*ways][:turn]:
                start = time.process_time()
                if ways[name](weights[step % len(weights)], step) != run.problems * run.samples * run.tokens:
                    raise SystemExit(f"{name}: another number of tokens was drawn")
                seconds[name].append(time.process_time() - start)
            gc.collect()
            sizes.append((harness.memory(), sum(array.nbytes for array in jax.live_arrays()) / 1e6))
    tokens, own = run.problems * run.samples * run.tokens, seconds[GENERATE][2:]
    middle = sizes[2 + run.steps // 2]
    return {
        "tokens_per_s": {name: round(tokens / statistics.median(each[2:])) for name, each in seconds.items()},
        "of_generate": {
            name: round(statistics.median(one / other for one, other in zip(own, each[2:], strict=True)), 3)
            for name, each in seconds.items()
        },
        "compiled_later": compiled.count - at_first,
        "grown_mb": [round(last - before, 2) for last, before in zip(sizes[-1], middle, strict=True)],
    }


def _ways(run: Run, decoding: Decoding) -> tuple[dict[str, Callable[[Any, int], int]], list[Any]]:
    """What is measured, as functions of parameters and step that give the tokens that they drew; and parameters."""
    settings = Generated(seed=1, operations=(2, 4), largest=19)
    problems = generate_problems(settings, run.problems)
    renderer = Renderer(build(WordTokenizer(largest=19), [text for each in problems for text in (each.question, each.solution)]))
    config = ModelConfig(vocab_size=renderer.vocab_size, width=96, layers=3, heads=3, kv_heads=3)
    weights = [transformer.init(config, key(seed, "bench")) for seed in range(4)]
    prompts = renderer.prompts([problem.question for problem in problems])
    prompts = [prompt for prompt in prompts for _ in range(run.samples)]
    entries = [("student", problem.id, sample) for problem in problems for sample in range(run.samples)]
    engine, still = (Engine(config, decoding, (), renderer.pad, vocabulary=renderer.vocab_size) for _ in range(2))
    still.update(weights[0])

    def anew(params: Any, step: int) -> int:
        drawn_keys = keys(0, f"step {step}", entries)
        found = generate(config, params, prompts, drawn_keys, decoding, (), renderer.pad, vocabulary=renderer.vocab_size)
        return sum(len(one.tokens) for one in found)

    def kept(params: Any, step: int) -> int:
        engine.update(params)
        author = Author("student", config, params, renderer, 0, "")
        return sum(len(one.completion.tokens) for one in drawn(engine, author, problems, run.samples, f"step {step}"))

    def alone(_: Any, step: int) -> int:
        return sum(len(one.tokens) for _, one in still.complete(prompts, keys(0, f"step {step}", entries)))

    return {GENERATE: anew, DRAWN: kept, PLAIN: alone}, weights


if __name__ == "__main__":
    main(tyro.cli(Run, description=__doc__))
