"""Policy gradients: completed optimizer steps per second beside TRL's GRPOTrainer, and what a step takes beyond its rollouts and
its gradient.

python tools/bench/policy.py              # 5 rounds, some 10 minutes on one core
python tools/bench/policy.py --quick      # does it run?
"""

import contextlib
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import harness
from harness import Found, Job, Line, Subject
from peers import hf_model
from shapes import SHAPES

OURS = "w2sr_jax"
DYNAMIC, STATIC = "TRL GRPOTrainer", "TRL, static cache"

SHAPE = "student"

ABOUT = (
    "Dr.GRPO with one optimizer step on every draw, in float32: a Qwen2 decoder with random weights in the size of the "
    "quickstart's first student (width 96, 3 layers, 3 heads, vocabulary 107), prompts of generated problems (22 to 44 tokens), "
    "8 answers to each of 8 problems a step, temperature 1 over the whole vocabulary, clipping at norm 1, AdamW, no KL to a "
    "reference. Answers of some 50 tokens: two ids of the vocabulary end one, so that lengths differ about as much as those of "
    "real traces do (the longest of 64 is 2.6 times the mean). Answers of one length: nothing ends one, which is the worst case "
    "for ours. The reward is a function of the answer's token ids, the same on both sides.",
    "A step is everything from one optimizer step to the next: new weights for the engine, rollouts, texts, verdicts, rewards, "
    "advantages, rows, the gradient, the update, metrics, and for ours also a journal of all rollouts with their "
    "log-probabilities on disk. TRL as a user who wants speed sets it up: all answers of a step at once, no gradient "
    "checkpointing, no logging, no saving, fused AdamW, scaled_dot_product_attention, the dynamic cache or the static one, "
    "whichever is better. Ours takes the rows of a step in micro-batches.",
    "In one process with ours the parts are measured by themselves, in turn with the steps: an engine of the same settings on "
    "the same prompts with the same keys, and the compiled optimizer step on the same rows. What a step takes beyond these two "
    "is the rest. Time is the processor's, which other work on the machine changes less, except where a line says that it is the "
    "clock's; imports, compilation and the first steps are left out.",
)

Case = dict[str, Any]
"""Sizes of a case; plain values, as they travel on a command line: problems and samples of a step, most tokens of an answer, how
many ids of the vocabulary end one, steps; of ours alone the rows' length in longest answers, the micro-batches and the slots."""


def cases(quick: bool) -> list[Case]:
    if quick:
        return [_case("2 × 4 answers of 8 tokens", 2, 4, 8, 0, 3, 1, 1, 8)]
    return [
        _case("8 × 8 answers of some 50 tokens, at most 128", 8, 8, 128, 2, 10, 2, 16, 16),
        _case("8 × 8 answers of 128 tokens", 8, 8, 128, 0, 5, 2, 16, 64),
        _case("8 × 8 answers of 32 tokens", 8, 8, 32, 0, 10, 2, 8, 64),
    ]


def _case(name: str, problems: int, samples: int, tokens: int, ends: int, steps: int, row: int, parts: int, slots: int) -> Case:
    sizes = {"problems": problems, "samples": samples, "tokens": tokens, "ends": ends, "steps": steps}
    return {"name": name, **sizes, "row": row, "parts": parts, "slots": slots}


def even(token_ids: Sequence[int]) -> float:
    """The reward: the share of even ids."""
    return sum(token % 2 == 0 for token in token_ids) / len(token_ids)


def problems(case: Case) -> tuple[list[Any], Any]:
    """Four draws' problems, and the renderer of their texts."""
    from w2sr_jax.problems.generated import generate
    from w2sr_jax.problems.settings import Generated
    from w2sr_jax.text.render import Renderer
    from w2sr_jax.text.settings import WordTokenizer
    from w2sr_jax.text.tokenizer import build

    class Ending(Renderer):
        """The first ids of the vocabulary end an answer."""

        @property
        def end_tokens(self) -> tuple[int, ...]:
            return ends(case)

    drawn = generate(Generated(seed=1, operations=(2, 4), largest=19), 4 * case["problems"])
    texts = [text for each in drawn for text in (each.question, each.solution)]
    return drawn, Ending(build(WordTokenizer(largest=19), texts))


def ends(case: Case) -> tuple[int, ...]:
    """The ids that end an answer."""
    return tuple(range(case["ends"]))


@dataclasses.dataclass
class Clocks:
    """Seconds of the processor and of the clock, measured together."""

    processor: list[float] = dataclasses.field(default_factory=list)
    clock: list[float] = dataclasses.field(default_factory=list)
    _since: tuple[float, float] | None = None

    def begin(self) -> None:
        self._since = time.process_time(), time.perf_counter()

    def end(self) -> None:
        if self._since is not None:
            processor, clock = self._since
            self.processor.append(time.process_time() - processor)
            self.clock.append(time.perf_counter() - clock)
        self._since = None

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        self.begin()
        yield
        self.end()


WARM = 2
"""Steps that are left out: they compile."""


def ours(cases: Sequence[Case]) -> Found:
    found: Found = {}
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            found[case["name"]] = _ours(case, Path(folder))
    return found


def _ours(case: Case, folder: Path) -> dict[str, float]:
    """A training by `fit`, with the parts of each step measured beside it."""
    import jax
    import jax.numpy as jnp

    from w2sr_jax.answers.grade import NumberGrader
    from w2sr_jax.batches.settings import Batching
    from w2sr_jax.core import records
    from w2sr_jax.core.keys import key, keys
    from w2sr_jax.core.records import Rollout
    from w2sr_jax.experiment.policy import OWN_ANSWERS
    from w2sr_jax.losses.objective import Objective
    from w2sr_jax.losses.policy import DrGrpo
    from w2sr_jax.losses.rollout_watch import RolloutWatch
    from w2sr_jax.models import transformer
    from w2sr_jax.parallel import compiling
    from w2sr_jax.parallel.mesh import batch_sharding, make_mesh
    from w2sr_jax.parallel.processes import put
    from w2sr_jax.parallel.settings import Mesh
    from w2sr_jax.sampling.engine import Engine
    from w2sr_jax.sampling.settings import Decoding
    from w2sr_jax.training.frozen import NO_MODELS
    from w2sr_jax.training.loop import fit
    from w2sr_jax.training.policy.drawing import Drawing
    from w2sr_jax.training.policy.draws import Draws
    from w2sr_jax.training.policy.gates import Gates
    from w2sr_jax.training.policy.program import learning_from, rollout_program
    from w2sr_jax.training.policy.source import RolloutSource

    compiling.tidy()  # as the `w2sr` command does
    every, renderer = problems(case)
    by_id = {problem.id: problem for problem in every}
    prompts = renderer.prompts([problem.question for problem in every])
    longest = max(map(len, prompts)) + case["tokens"] - 1
    length = int(case["row"] * longest)
    config, mesh, loss = SHAPES[SHAPE], make_mesh(Mesh(data=1)), DrGrpo()
    params = transformer.init(config, key(0, "bench"))
    # As transformers draws it, so that all tokens are about as probable on both sides, those that end an answer too.
    params["embedding"] = 0.02 * jax.random.normal(key(1, "bench"), params["embedding"].shape)
    rows = case["problems"] * case["samples"]
    decoding = Decoding(temperature=1.0, max_tokens=case["tokens"], batch=case["slots"])
    draws = Draws(
        steps=WARM + case["steps"],
        problems=case["problems"],
        samples=case["samples"],
        length=length,
        advantages=loss.advantages,
        denominator=loss.denominator,
        rewards=(lambda trace, _: even(trace.token_ids),),
        truncated="count",
        parts=case["parts"],
    )
    batching = Batching(length=length, rows=rows, pack=False)
    training = dataclasses.replace(OWN_ANSWERS, steps=draws.steps, batching=batching, accumulation=case["parts"])
    drawing, other = (Drawing("student", 0, config, renderer, decoding, mesh, folder, longest=longest + 1) for _ in range(2))
    gates = Gates(looping=0.0, truncated=0.0)
    learns = learning_from(Objective(loss), decoding, None, RolloutWatch(loss.clip, False))
    program = rollout_program(config, params, training, Objective(loss), learns, mesh, NO_MODELS, gates, 0)
    source = RolloutSource(draws, NumberGrader(), every, drawing, program.whole, ways=1)
    engine = Engine(config, decoding, renderer.end_tokens, renderer.pad, mesh, renderer.vocab_size, longest + 1)
    engine.update(params)

    cycle, gradient, alone, within = (Clocks() for _ in range(4))
    drawn: list[int] = []
    compiled, step = program._student.compiled, program.step

    def timed(state: Any, batch: Any) -> Any:
        jax.block_until_ready(state)
        cycle.end()
        draw = len(alone.clock)
        rollouts = records.read(source.paths[draw], Rollout)
        drawn.extend(rollout.tokens for rollout in rollouts)
        chosen = [by_id[problem] for problem in dict.fromkeys(rollout.problem_id for rollout in rollouts)]
        asked = [prompt for prompt in renderer.prompts([one.question for one in chosen]) for _ in range(case["samples"])]
        # The keys, and with them the lengths, of the step's own rollouts.
        entries = [("student", problem.id, sample) for problem in chosen for sample in range(case["samples"])]
        engine.update(state.params)
        row_keys = keys(0, f"rollout {draw}", entries)
        with alone.timed():
            tokens = sum(len(one.tokens) for _, one in engine.complete(asked, row_keys))
        if tokens != sum(rollout.tokens for rollout in rollouts):
            raise SystemExit("the engine alone drew another number of tokens than the step")
        with within.timed():
            for _ in other.groups(draw, state.params, chosen, case["samples"]):
                pass
        copy, on_devices = jax.tree.map(jnp.copy, state), put(batch.rows, batch_sharding(mesh))
        jax.block_until_ready((copy, on_devices))
        with gradient.timed():
            jax.block_until_ready(compiled.step(copy, on_devices, None))
        cycle.begin()
        return step(state, batch)

    program.step = timed  # type: ignore[method-assign]
    fit(program, source, folder / "training", {"config_hash": "bench"}, training.loop)
    metrics = {"tokens": statistics.mean(drawn)}
    for name in ("processor", "clock"):
        whole, backward, engines, asked = (
            statistics.median(getattr(each, name)[WARM:]) for each in (cycle, gradient, alone, within)
        )
        metrics |= {
            f"steps_per_s_{name}": 1 / whole,
            f"step_ms_{name}": 1e3 * whole,
            f"gradient_ms_{name}": 1e3 * backward,
            f"engine_ms_{name}": 1e3 * engines,
            f"rollouts_ms_{name}": 1e3 * asked,
            f"overhead_{name}": 100 * (whole - backward - engines) / whole,
            f"engine_rate_{name}": 100 * engines / asked,
        }
    return metrics


def trl(cases: Sequence[Case], **settings: Any) -> Found:
    """`GRPOTrainer` on the same prompts, as token ids."""
    return {case["name"]: _trl(case, settings) for case in cases}


def _trl(case: Case, settings: dict[str, Any]) -> dict[str, float]:
    import torch
    from datasets import Dataset
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    every, renderer = problems(case)
    size = SHAPES[SHAPE].vocab_size
    inner = Tokenizer(WordLevel({f"t{index}": index for index in range(size + 1)}, unk_token="t0"))
    inner.pre_tokenizer = WhitespaceSplit()
    pad = f"t{renderer.pad}"
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token=pad, unk_token="t0", eos_token=f"t{size}")
    prompts = [" ".join(f"t{token}" for token in ids) for ids in renderer.prompts([one.question for one in every])]
    cycle = Clocks()

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            cycle.end()
            cycle.begin()

    lengths: list[int] = []

    def reward(completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
        lengths.extend(map(len, completion_ids))
        return [even(ids) for ids in completion_ids]

    model = hf_model(SHAPE)
    model.generation_config.eos_token_id = list(ends(case)) or None
    torch.set_num_threads(settings.pop("threads", 1))
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(None):
        arguments = GRPOConfig(
            output_dir=folder,
            max_steps=WARM + case["steps"] + 1,
            learning_rate=1e-6,
            max_grad_norm=1.0,
            lr_scheduler_type="constant",
            per_device_train_batch_size=case["problems"] * case["samples"],
            gradient_accumulation_steps=1,
            num_generations=case["samples"],
            max_completion_length=case["tokens"],
            temperature=1.0,
            loss_type="dr_grpo",
            scale_rewards="none",
            beta=0.0,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            optim="adamw_torch_fused",
            report_to="none",
            logging_strategy="no",
            save_strategy="no",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            **settings,
        )
        data = Dataset.from_dict({"prompt": prompts})
        trainer = GRPOTrainer(model, reward, arguments, data, processing_class=tokenizer, callbacks=[Clock()])
        trainer.train()
    if not case["ends"] and set(lengths) != {case["tokens"]}:
        raise SystemExit("an answer has another length than was asked for")
    metrics = {"tokens": statistics.mean(lengths)}
    for name in ("processor", "clock"):
        whole = statistics.median(getattr(cycle, name)[WARM:])
        metrics |= {f"steps_per_s_{name}": 1 / whole, f"step_ms_{name}": 1e3 * whole}
    return metrics


def jobs(quick: bool) -> list[Job]:
    given = cases(quick)
    return [
        Job(OURS, "ours", {"cases": given}, harness.HUGE_PAGES, cache="xla"),
        Job(DYNAMIC, "trl", {"cases": given}),
        Job(STATIC, "trl", {"cases": given, "cache_implementation": "static"}),
    ]


def lines(quick: bool) -> list[Line]:
    found = []
    peers = (DYNAMIC, STATIC)
    for case in cases(quick):
        name = case["name"]
        target = {} if quick else {"target": 3.0}
        found += [
            Line(f"{name}: rate", name, "steps_per_s_processor", "steps/s", peers=peers, **target),
            Line(f"{name}: rate by the clock", name, "steps_per_s_clock", "steps/s", peers=peers),
            Line(f"{name}: a whole step", name, "step_ms_processor", "ms", "lower"),
            Line(f"{name}: of it, the engine alone", name, "engine_ms_processor", "ms", "lower"),
            Line(f"{name}: of it, the optimizer step alone", name, "gradient_ms_processor", "ms", "lower"),
            Line(f"{name}: of it, the rest", name, "overhead_processor", "%", "lower", target=None if quick else 15.0),
            Line(f"{name}: rollouts' rate, of the engine's", name, "engine_rate_processor", "%", target=None if quick else 90.0),
        ]
    return found


WORKS: dict[str, Callable[..., Found]] = {"ours": ours, "trl": trl}
SUBJECT = Subject("policy", "Policy gradients", ABOUT, jobs, WORKS, lines)

if __name__ == "__main__":
    harness.main(SUBJECT)
