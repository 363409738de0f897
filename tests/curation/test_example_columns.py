"""An example has all that was recorded of the trace that it is made of."""

import dataclasses

import numpy as np

from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.core.topk import TopK
from w2sr_jax.curation.select import curate
from w2sr_jax.curation.settings import Curation


def test_an_example_has_the_tokens_and_the_distributions_of_its_trace() -> None:
    problem = Problem.of("How many ?", "2")
    top = TopK(np.array([[3, 4]], np.int32), np.array([[-0.5, -1.0]], np.float32), np.array([-3.0], np.float32))
    trace = Trace("t", problem.id, "weak", 0, "1 + 1 = 2 #### 2", "2", "correct", "stop", 1, -0.5, "x", "r", "g", (3,), (-0.5,))
    (example,) = curate([dataclasses.replace(trace, top=top)], [problem], "all", Curation()).examples
    assert (example.token_ids, example.logprobs) == ((3,), (-0.5,))
    assert example.top is top
