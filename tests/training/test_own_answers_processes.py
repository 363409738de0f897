"""Two processes of four devices each learn from the answers that one process with eight devices draws, end together when one of
them is asked to stop, and go on to the same bits."""

import dataclasses
from pathlib import Path

import pytest
from own_answers import DRAWS, learn
from test_own_answers import metrics, rollouts
from test_training_processes import start

from w2sr_jax.parallel.settings import Mesh

MESH = Mesh(data=2, fsdp=4)
WORKER = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from w2sr_jax.parallel.processes import initialize
from w2sr_jax.parallel.settings import Mesh, Processes
initialize(Processes(sys.argv[3], 2, int(sys.argv[4]), timeout=120))
import dataclasses
import jax
from own_answers import DRAWS, learn
from w2sr_jax.core.errors import Stopped
assert (jax.process_count(), jax.local_device_count(), jax.device_count()) == (2, 4, 8)
directory, mesh = Path(sys.argv[2]), Mesh(data=2, fsdp=4)
draws = dataclasses.replace(DRAWS, steps=3, ahead=True)
whole = learn(directory / "whole", draws=draws, mesh=mesh)
asked = iter([False, True])
try:
    learn(directory / "parts", draws=draws, mesh=mesh, stop=lambda: jax.process_index() == 1 and next(asked, True))
    raise SystemExit("not stopped")
except Stopped:
    pass
parts = learn(directory / "parts", draws=draws, mesh=mesh, stop=lambda: False)
print("DIGESTS", whole.params_digest, parts.params_digest)
"""


def test_two_processes_learn_from_the_answers_that_one_draws(tmp_path: Path) -> None:
    draws = dataclasses.replace(DRAWS, steps=3, ahead=True)
    learn(tmp_path / "one", draws=draws, mesh=MESH)
    said = set()
    for code, out, err in start(WORKER, tmp_path, devices=4):
        assert code == 0, err[-3000:]
        said.update(next(line for line in out.splitlines() if line.startswith("DIGESTS")).split()[1:])
    assert len(said) == 1
    assert (tmp_path / "parts" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    for draw in range(draws.steps):
        one, two = (rollouts(tmp_path / name, draw) for name in ("one", "whole"))
        assert [(each.id, each.text, each.token_ids, each.reward, each.advantage) for each in one] == [
            (each.id, each.text, each.token_ids, each.reward, each.advantage) for each in two
        ]
        assert rollouts(tmp_path / "parts", draw) == two
    for alone, together in zip(metrics(tmp_path / "one"), metrics(tmp_path / "whole"), strict=True):
        assert together["gradient_norm"] == pytest.approx(alone["gradient_norm"], rel=1e-5)
        assert together["loss"] == pytest.approx(alone["loss"], abs=1e-5 * abs(alone["gradient_norm"]))
        assert together["entropy"] == pytest.approx(alone["entropy"], rel=1e-5)
