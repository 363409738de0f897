"""Two processes of two virtual devices each train, save and resume as one process does."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import training_toy as toy
import xla_flags

from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.training import checkpoints
from w2sr_jax.training.digest import kind_of, params_digest

MESH = Mesh(data=2, fsdp=2)
WORKER = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from w2sr_jax.parallel.processes import initialize
from w2sr_jax.parallel.settings import Mesh, Processes
initialize(Processes(sys.argv[3], 2, int(sys.argv[4]), timeout=120))
import dataclasses, shutil
import jax
import test_checkpoints as saved
import training_toy as toy
from w2sr_jax.core import files
from w2sr_jax.training import digest
from w2sr_jax.training.checkpoints import restore_params, save_params
from w2sr_jax.training.digest import params_digest
assert (jax.process_count(), jax.local_device_count(), jax.device_count()) == (2, 2, 4)
directory, mesh = Path(sys.argv[2]), Mesh(data=2, fsdp=2)
class Interrupt(Exception): pass
def on_event(event):
    if event["step"] == 3: raise Interrupt
settings = dataclasses.replace(toy.SETTINGS, log_every=1)
gathered, hashed, gather, digest_file = [], [], digest.gather, files.digest_file
digest.gather = lambda tree: (gathered.append(tree), gather(tree))[1]
files.digest_file = lambda path: (hashed.append(str(path)), digest_file(path))[1]
straight = toy.run(directory / "straight", settings, mesh=mesh)
me, other = (f"/ocdbt.process_{index}/" for index in (jax.process_index(), 1 - jax.process_index()))
assert not gathered
assert any(me in path for path in hashed) and not any(other in path for path in hashed), hashed
digest.gather, files.digest_file = gather, digest_file
try:
    toy.run(directory / "resumed", settings, mesh=mesh, on_event=on_event)
except Interrupt:
    pass
resumed = toy.run(directory / "resumed", settings, mesh=mesh)
from w2sr_jax.core.errors import Stopped
asked = iter([False, False, True])  # before steps 1, 2 and 3, whatever the clock says
one_of_them = lambda: jax.process_index() == 1 and next(asked, True)
pairs = dataclasses.replace(settings, log_every=2)
try:
    toy.run(directory / "stopped", pairs, mesh=mesh, stop=one_of_them)
    raise SystemExit("not stopped")
except Stopped as stopped:
    assert "after step 2 of 6; it is saved in" in str(stopped), stopped
if jax.process_index() == 0:
    shutil.copytree(directory / "stopped", directory / "alone")
stopped = toy.run(directory / "stopped", pairs, mesh=mesh, stop=lambda: False)
assert stopped.tokens == straight.tokens
from w2sr_jax.training.imitation import ReferenceStore
single = restore_params(directory / "single", saved.program(mesh).params)
assert single["embedding"].sharding.spec == straight.params["embedding"].sharding.spec
assert not single["embedding"].is_fully_addressable
restored = params_digest(restore_params(straight.checkpoint))
kept = [save_params(directory / "kept", straight.params, {}) for _ in range(2)]
kept.append(params_digest(restore_params(directory / "kept")))
keep, computed = dataclasses.replace(settings, reference_top=toy.VOCAB), []
for name in ("referenced", "again"):
    store = ReferenceStore(directory / "references", lambda rows, total: computed.append(rows))
    referenced = toy.run(directory / name, keep, toy.REFERENCED, mesh, store=store)
    print("REFERENCED", referenced.params_digest)
assert computed == [0, 8, 16], computed
print("DIGESTS", json.dumps([straight.params_digest, resumed.params_digest, stopped.params_digest, restored, *kept]))
"""


PREEMPTED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from w2sr_jax.core.process.stopping import Stop
stop = Stop()
with stop.installed(grace=100):
    from w2sr_jax.parallel.processes import joined
    from w2sr_jax.parallel.settings import Mesh, Processes
    with joined(Processes(sys.argv[3], 2, int(sys.argv[4]), timeout=120), {}, stop, ""):
        import dataclasses
        import jax
        import training_toy as toy
        def on_event(event):
            if event["step"] == 2 and jax.process_index() == 1: os.kill(os.getpid(), signal.SIGTERM)
        settings = dataclasses.replace(toy.SETTINGS, log_every=1)
        with stop.deferred() as asked:
            toy.run(Path(sys.argv[2]), settings, mesh=Mesh(data=2, fsdp=2), on_event=on_event, stop=asked)
"""


def test_a_process_that_is_preempted_has_all_save_the_same_step(tmp_path: Path) -> None:
    """jax takes SIGTERM for itself when processes join."""
    for code, _, err in start(PREEMPTED, tmp_path):
        assert code == 143, err[-3000:]
        assert "training was asked to stop and did so after step" in err, err[-3000:]
    (step,) = (path for path in (tmp_path / "checkpoints").iterdir() if path.name.isdecimal())
    assert 2 <= int(step.name) < 6
    assert checkpoints.read_lineage(step)["step"] == int(step.name)


def start(script: str, directory: Path, devices: int = 2) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of two processes that run a script, with so many devices each."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    environment = os.environ | {"XLA_FLAGS": xla_flags.devices(devices), "JAX_PLATFORMS": "cpu"}
    folder = str(Path(__file__).parent)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", script, folder, str(directory), address, str(index)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    try:
        outputs = [worker.communicate(timeout=300) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    return [(worker.returncode, out, err) for worker, (out, err) in zip(workers, outputs)]


def test_two_processes_equal_one(tmp_path: Path) -> None:
    checkpoints.save_params(tmp_path / "single", toy.params(), {})
    digests, referenced = set(), set()
    for code, out, err in start(WORKER, tmp_path):
        assert code == 0, err[-3000:]
        digests.update(json.loads(next(line for line in out.splitlines() if line.startswith("DIGESTS"))[8:]))
        referenced.update(line for line in out.splitlines() if line.startswith("REFERENCED"))
    assert len(digests) == len(referenced) == 1

    together = checkpoints.restore_params(tmp_path / "straight" / "checkpoints")
    (digest,) = digests
    assert kind_of(digest) == "checksum"
    assert digest == params_digest(together, digest)  # as one process computes it
    one = toy.run(tmp_path / "one", mesh=MESH)
    continued = toy.run(tmp_path / "alone", mesh=MESH)
    assert (continued.steps, continued.tokens, kind_of(continued.params_digest)) == (6, one.tokens, "sha256")
    assert kind_of(continued.lineage["initial_params_digest"]) == "checksum"
    for each in (together, continued.params):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=0, atol=1e-4), each, one.params)
    lines = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("straight", "resumed")]
    assert lines[0] == lines[1]
    assert json.loads(lines[0].splitlines()[-1])["loss"] == pytest.approx(one.metrics["loss"], rel=1e-4)
    computing = toy.run(tmp_path / "computing", objective=toy.REFERENCED, mesh=MESH)
    last = (tmp_path / "referenced" / "metrics.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["loss"] == pytest.approx(computing.metrics["loss"], rel=1e-4)
