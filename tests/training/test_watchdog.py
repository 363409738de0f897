"""Exploding losses, stalled data and full memory, each said with the step and the last sound checkpoint."""

import dataclasses
import json
import math
import os
import re
import threading
from pathlib import Path
from typing import Any

import jax
import pytest
import training_toy as toy

from w2sr_jax.batches.batch import Batch, Batches
from w2sr_jax.core.errors import UserError
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.schedules import Cosine, Linear
from w2sr_jax.losses.token import Entropy, Nll, Weighted
from w2sr_jax.training import checkpoints, journal, watchdog
from w2sr_jax.training.level import level
from w2sr_jax.training.settings import Training, Watchdog
from w2sr_jax.training.watchdog import Devices, Explosion, Host, Memory, Usage


def test_the_bound_is_a_multiple_of_guessing_or_of_the_first_step() -> None:
    guessing = math.log(32)
    for first, bound in ((0.0, 3 * guessing), (10.0, 30.0)):
        explosion = Explosion(3.0, 32, [])
        assert explosion.words(1, {"loss": first, "nll": first}) is None
        assert explosion.words(9, {"loss": bound - 1e-3, "nll": bound - 1e-3}) is None
        assert f"the loss is {bound + 1:g}, above {bound:g}" in str(explosion.words(9, {"loss": bound + 1, "nll": 0.0}))
        assert "the nll is" in str(explosion.words(9, {"loss": 0.0, "nll": bound + 1}))
        resumed = Explosion(3.0, 32, [{"step": 1, "loss": first, "nll": first}, {"step": 2, "loss": 99.0, "nll": None}])
        assert resumed.words(9, {"loss": bound - 1e-3, "nll": None}) is None
        assert resumed.words(9, {"loss": bound + 1, "nll": None})
    assert Explosion(0.0, 32, []).words(9, {"loss": 1e9, "nll": 1e9}) is None


def test_the_bound_of_a_loss_rises_with_its_schedule_and_that_of_the_nll_does_not() -> None:
    """Worth 30 NLLs at step 9, and 20 times as much as at step 1."""
    explosion = Explosion(3.0, 32, [], lambda step: (30.0, 20.0))
    assert explosion.words(1, {"loss": 10.0, "nll": 2.0}) is None
    assert explosion.words(9, {"loss": 599.0, "nll": 2.0}) is None
    assert "the loss is 601, above 600" in str(explosion.words(9, {"loss": 601.0, "nll": 2.0}))
    assert "the nll is 11" in str(explosion.words(9, {"loss": 599.0, "nll": 11.0}))
    from_nothing = Explosion(3.0, 32, [], lambda step: (30.0, 0.0))
    assert from_nothing.words(1, {"loss": 0.0, "nll": 2.0}) is None
    assert from_nothing.words(9, {"loss": 90.0 * math.log(32) - 1, "nll": 2.0}) is None
    assert from_nothing.words(9, {"loss": 90.0 * math.log(32) + 1, "nll": 2.0})


def jumps(tokens: Any) -> Any:
    return jax.numpy.where(tokens.progress > 0.7, 50.0, 1.0) * Nll()(tokens)


def test_how_large_a_loss_is_follows_its_schedule_alone() -> None:
    for loss, step, in_nlls, in_its_own in (
        (Nll(), 5, 1.0, 1.0),
        (Weighted(Linear(0.0, 100.0), Nll()), 6, 100.0, 0.0),
        (Weighted(Linear(1.0, 100.0), Nll()), 6, 100.0, 100.0),
        (Weighted(Cosine(1.0, 0.0), Nll()), 6, 1.0, 1.0),
        (Nll() - Weighted(Linear(0.0, 3.0), Entropy()), 6, 1.3, 1.3),
        (jumps, 5, 50.0, 50.0),
        (lambda tokens: tokens.logits[:, :3] @ 0, 5, 1.0, 1.0),  # one that does not run says nothing
    ):
        assert level(loss, 32, 6)(step) == pytest.approx((in_nlls, in_its_own), rel=0.25)


@pytest.mark.parametrize("sittings", [1, 2])
def test_an_exploding_loss_stops_the_training_before_it_is_saved(tmp_path: Path, sittings: int) -> None:
    """The learning rate is far too high. A step that is not logged would be saved all the same. That the loss is to rise a
    hundredfold by its schedule hides nothing."""
    settings = dataclasses.replace(toy.SETTINGS, log_every=6, save_every=1, learning_rate=30.0, warmup=0.0, clip=0.0)
    objective = Objective(loss=Weighted(Linear(1.0, 100.0), Nll()))

    def interrupt(event: Any) -> None:
        if event["step"] == 1 and sittings == 2:
            raise KeyboardInterrupt

    if sittings == 2:
        with pytest.raises(KeyboardInterrupt):
            toy.run(tmp_path, settings, objective=objective, on_event=interrupt)
    with pytest.raises(UserError) as caught:
        toy.run(tmp_path, settings, objective=objective)
    message = str(caught.value)
    first = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])["loss"]
    said = re.match(
        r"training stopped at step 2 of 6: the loss is (\S+), above (\S+) \(3 times what it may start from\)", message
    )
    assert said is not None
    assert float(said[1]) > float(said[2]) == pytest.approx(3 * 20.8 * max(first, math.log(toy.VOCAB)), rel=0.01)
    assert f"the last sound checkpoint is {tmp_path / 'checkpoints' / '1'};" in message
    assert checkpoints.read_lineage(tmp_path / "checkpoints")["step"] == 1


def test_a_loss_whose_schedule_rises_has_not_exploded(tmp_path: Path) -> None:
    settings = dataclasses.replace(toy.SETTINGS, log_every=1, save_every=0)
    result = toy.run(tmp_path, settings, objective=Objective(loss=Weighted(Linear(0.0, 100.0), Nll()) + jumps))
    losses = [line["loss"] for line in journal.read(tmp_path / "metrics.jsonl")]
    assert result.steps == 6
    assert losses[-1] > 3 * max(losses[0], math.log(toy.VOCAB))


@dataclasses.dataclass(frozen=True)
class Stuck(Batches):
    """Batches of which the one of step 4 never comes."""

    release: threading.Event = dataclasses.field(default_factory=threading.Event)

    def batch_at(self, step: int) -> Batch:
        if step == 3:
            self.release.wait(60)
        return super().batch_at(step)


def test_a_stalled_source_of_data_is_named_and_nothing_is_lost(tmp_path: Path) -> None:
    settings = dataclasses.replace(toy.SETTINGS, watchdog=Watchdog(stall=0.4))
    data, warnings = Stuck(toy.packed(), settings.batching, settings.seed), []
    with pytest.raises(UserError) as caught:
        toy.run(tmp_path, settings, data=data, on_warning=warnings.append)
    data.release.set()
    assert str(caught.value) == (
        "training stopped at step 4: no batch of step 4 came within 0.4 s; "
        f"the last sound checkpoint is {tmp_path / 'checkpoints' / '3'}; look at the source of data"
    )
    assert len(warnings) == 1
    assert "step 4 has waited" in warnings[0]
    undisturbed = toy.run(tmp_path / "undisturbed", settings)
    assert toy.run(tmp_path, settings).params_digest == undisturbed.params_digest
    assert (tmp_path / "metrics.jsonl").read_bytes() == (tmp_path / "undisturbed" / "metrics.jsonl").read_bytes()


def test_full_memory_is_told_once() -> None:
    usage = [Usage("the host's memory", 91, 100), Usage("the memory of device 0 (tpu)", 10, 100)]
    memory = Memory(0.92, [lambda: usage])
    assert memory.words(10) is None
    usage[1] = Usage("the memory of device 0 (tpu)", 15_000_000_000, 16_000_000_000)
    assert memory.words(20) == "at step 20 the memory of device 0 (tpu) is nearly full: 15.0 of 16.0 GB (94%)"
    assert memory.words(30) is None
    usage[0] = Usage("the host's memory", 93, 100)
    assert "step 10 the host's memory" in str(Memory(0.92, [lambda: usage]).words(10))
    assert Memory(0.0, [lambda: usage]).words(10) is None


def test_full_memory_is_a_warning_of_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Usage("the host's memory", 95, 100)
    monkeypatch.setattr(watchdog, "Memory", lambda share: Memory(share, [lambda: [full]]))
    warnings: list[str] = []
    toy.run(tmp_path, on_warning=warnings.append)
    assert len(warnings) == 1
    assert warnings[0].startswith("at step 1 the host's memory is nearly full: ")
    assert warnings[0].endswith("; no checkpoint was saved before")


def host(root: Path, resident: int, **content: str) -> Host:
    pages = resident // os.sysconf("SC_PAGE_SIZE")
    for name, text in {"proc/self/statm": f"9999999 {pages} 0 0 0 0 0", **content}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Host(root)


GB = 2**30
GROUP = "sys/fs/cgroup/job"
PHYSICAL = {"proc/meminfo": f"MemTotal:       {64 * GB // 1024} kB\nMemFree: 1 kB\n"}
TWO = {"proc/self/cgroup": "0::/job/step\n"}
ONE = {"proc/self/cgroup": "5:cpu:/other\n4:memory,hugetlb:/job\n0::/\n"}


@pytest.mark.parametrize(
    ("content", "limit"),
    [
        (PHYSICAL, 64 * GB),
        ({**PHYSICAL, **TWO, f"{GROUP}/step/memory.max": "max\n", f"{GROUP}/memory.max": f"{8 * GB}\n"}, 8 * GB),
        ({**PHYSICAL, **TWO, "sys/fs/cgroup/memory.max": "max\n"}, 64 * GB),
        ({**PHYSICAL, **ONE, "sys/fs/cgroup/memory/job/memory.limit_in_bytes": f"{4 * GB}\n"}, 4 * GB),
        ({**PHYSICAL, **ONE, "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 64 * GB),
    ],
    ids=["machine", "control group 2, above", "unlimited 2", "control group 1", "unlimited 1"],
)
def test_the_hosts_limit_is_the_tightest(tmp_path: Path, content: dict[str, str], limit: int) -> None:
    assert host(tmp_path, 2 * GB, **content).usage() == [Usage("the host's memory", 2 * GB, limit)]


def test_a_host_that_does_not_say_is_not_watched(tmp_path: Path) -> None:
    assert Host(tmp_path).usage() == []
    assert host(tmp_path, GB).usage() == []


def test_this_host_says() -> None:
    usage = Host().usage()
    if not Path("/proc/self/statm").exists():
        pytest.skip("this system has no /proc")
    assert 0 < usage[0].used < usage[0].limit
    assert Devices().usage() == [] or all(usage.limit > 0 for usage in Devices().usage())


class Device:
    id, device_kind = 3, "tpu"

    def __init__(self) -> None:
        self.stats: dict[str, int] | None = {"bytes_in_use": 10, "peak_bytes_in_use": 90, "bytes_limit": 100}

    def memory_stats(self) -> dict[str, int] | None:
        return self.stats


def test_a_devices_peak_counts_from_here_on() -> None:
    device: Any = Device()
    devices = Devices([device])
    assert devices.usage() == [Usage("the memory of device 3 (tpu)", 10, 100)]
    device.stats = {"bytes_in_use": 10, "peak_bytes_in_use": 95, "bytes_limit": 100}
    assert devices.usage() == [Usage("the memory of device 3 (tpu)", 95, 100)]
    device.stats = None
    assert Devices([device]).usage() == []


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [("explosion", 0.5, "at least 1"), ("stall", -1.0, "seconds"), ("memory", 1.5, "fraction of the memory")],
)
def test_settings_that_make_no_sense_are_refused(field: str, value: float, words: str) -> None:
    with pytest.raises(UserError, match=f"training.watchdog.{field} is {value}; it must be .*{words}"):
        Training(watchdog=Watchdog(**{field: value}))


def test_lines_are_read_back_and_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"loss":1.5,"step":1}\n{"loss":1.0,"step":2}\n{"lo')
    assert [line["step"] for line in journal.read(path)] == [1, 2]
    path.write_text('{"loss":1.5,"step":1}\n{"lo#s":1.0,"st\n{"loss":1.0,"step":3}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2 is damaged"):
        journal.read(path)
