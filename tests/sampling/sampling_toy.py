"""A tiny author and its problems, for tests of traces and shards, in this process or another."""

import jax

from w2sr_jax.core.records import Problem, Verdict
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.sampling.engine import Engine
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.sampling.traces import Author, drawn
from w2sr_jax.text.render import Renderer
from w2sr_jax.text.settings import WordTokenizer
from w2sr_jax.text.tokenizer import build

PROBLEMS = [Problem.of(f"Bob has {n} and finds {n + 1} . How many ?", str(2 * n + 1)) for n in range(7)]
DECODING = Decoding(max_tokens=5, batch=4)
SAMPLES = 2


class CountingGrader:
    """Calls a trace correct where its text has the letter a; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, text: str, problem: Problem) -> Verdict:
        self.asked.append(problem.id)
        return Verdict("correct" if "a" in text else "incorrect", problem.answer, "letters", "counting")


def make_author(mesh: jax.sharding.Mesh | None = None, heads: int = 2) -> Author:
    renderer = Renderer(build(WordTokenizer(largest=15), [problem.question for problem in PROBLEMS]))
    config = ModelConfig(vocab_size=renderer.vocab_size, width=8, layers=1, heads=heads, kv_heads=heads, mlp=16)
    return Author("weak", config, transformer.init(config, jax.random.key(0)), renderer, seed=3, provenance="digest", mesh=mesh)


def steps(author: Author) -> list[list[list[int]]]:
    """The tokens that one engine draws in two steps, the second with other parameters, text by text."""
    renderer = author.renderer
    decoding = Decoding(temperature=0.8, max_tokens=5, batch=4)
    engine = Engine(author.config, decoding, renderer.end_tokens, renderer.pad, author.mesh, renderer.vocab_size)
    drawn_by = []
    for step, params in enumerate((author.params, jax.tree.map(lambda leaf: leaf * 1.5, author.params))):
        engine.update(params)
        texts = {(one.problem, one.sample): one.completion for one in drawn(engine, author, PROBLEMS, SAMPLES, f"step {step}")}
        assert all(one.sampled is not None and len(one.sampled) == len(one.tokens) for one in texts.values())
        drawn_by.append([texts[which].tokens for which in sorted(texts)])
    return drawn_by
