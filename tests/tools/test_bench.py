"""The benchmarks: measured side by side as they claim, compared as they claim, and able to run with the package as it is."""

import json
import os
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools" / "bench"

PAIR = """
    import os, sys
    sys.path.insert(0, {tools!r})
    import harness
    from harness import Job, Line, Subject

    def ours(value):
        with open({log!r}, "a") as file:
            file.write(f"ours {{os.getpid()}} {{len(os.sched_getaffinity(0))}} {{os.environ.get('XLA_FLAGS')}}\\n")
        return {{"sum": {{"rate": value, "memory": harness.memory(), "waited": harness.since_start()}}}}

    def peer(value):
        with open({log!r}, "a") as file:
            file.write(f"peer {{os.getpid()}} 1 None\\n")
        return {{"sum": {{"rate": value}}}}

    def broken():
        raise ValueError("this one never works")

    def jobs(quick):
        return [Job("w2sr_jax", "ours", {{"value": 6.0}}), Job("peer", "peer", {{"value": 2.0}}), Job("broken", "broken"),
                Job("rare", "peer", {{"value": 1.0}}, once=True)]

    def lines(quick):
        return [Line("rate", "sum", "rate", "1/s", peers=("peer",), target=2.5)]

    SUBJECT = Subject("pair", "A pair", ("Two functions.",), jobs, {{"ours": ours, "peer": peer, "broken": broken}}, lines)
    if __name__ == "__main__":
        harness.main(SUBJECT)
"""


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    _forget()
    monkeypatch.syspath_prepend(str(TOOLS))
    yield TOOLS
    _forget()


def _forget() -> None:
    """The benchmarks' modules have plain names, which other folders use too."""
    for name, module in list(sys.modules.items()):
        if name == "pair" or (getattr(module, "__file__", None) or "").startswith(str(TOOLS)):
            del sys.modules[name]


@pytest.fixture
def pair(tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    text = textwrap.dedent(PAIR).format(tools=str(tools), log=str(tmp_path / "log"))
    (tmp_path / "pair.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    import pair

    return pair


def found(values: dict[str, list[float]], **line: Any) -> dict[str, Any]:
    """A file of measurements with one line: variant → its value in each round."""
    runs = [
        {"key": variant, "variant": variant, "round": turn, "found": {"case": {"rate": value}}, "error": None, "seconds": 1.0}
        for variant, each in values.items()
        for turn, value in enumerate(each)
    ]
    defaults = {"name": "job", "case": "case", "metric": "rate", "unit": "1/s", "better": "higher", "ours": "w2sr_jax"}
    machine = {"processor": "A core", "family": "f", "instructions": ["avx"], "cores": 2, "memory_gib": 8, "system": "Linux"}
    return {
        "schema": 1,
        "subject": "training",
        "title": "Training",
        "about": ["What was done."],
        "date": "2026-01-02",
        "machine": {**machine, "python": "3.11"},
        "versions": {"jax": "0.0.1"},
        "settings": {"rounds": 3, "quick": False, "core": 1, "cores_used": 1},
        "lines": [{**defaults, "peers": ["peer"], "target": None, "limit": "", **line}],
        "runs": runs,
    }


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin a process to a core")
def test_every_measurement_is_a_fresh_process_on_one_core_in_turn(pair: ModuleType, tmp_path: Path) -> None:
    import compare
    import harness

    allowed = os.sched_getaffinity(0)
    path = harness.measure(pair.SUBJECT, harness.Plan(rounds=3, out=tmp_path / "out"))

    lines = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert [line[0] for line in lines] == ["ours", "peer", "peer", "ours", "peer", "ours", "peer"]  # the third is the rare one
    assert len({line[1] for line in lines}) == len(lines)
    assert {(line[2], line[3]) for line in lines} == {("1", "None")}  # one core, and none of the tests' own flags
    assert os.sched_getaffinity(0) == allowed

    measured = json.loads(path.read_text())
    broken = [run for run in measured["runs"] if run["variant"] == "broken"]
    assert len(broken) == 2  # tried twice, then given up; the others went on
    assert all("this one never works" in run["error"] for run in broken)
    result = compare.compare(measured, measured["lines"][0])
    assert result is not None
    assert (result["ratio"], result["reached"], result["peer_name"]) == (3.0, True, "peer")
    ours = next(run for run in measured["runs"] if run["variant"] == "w2sr_jax")["found"]["sum"]
    assert ours["memory"] > 1
    assert 0 < ours["waited"] < 60

    log = (tmp_path / "log").read_text()
    harness.measure(pair.SUBJECT, harness.Plan(rounds=3, out=tmp_path / "out", resume=True, match="ours"))
    assert (tmp_path / "log").read_text() == log  # all of it was there already
    measured["runs"] = measured["runs"][:3]
    path.write_text(json.dumps(measured))
    harness.measure(pair.SUBJECT, harness.Plan(rounds=2, out=tmp_path / "out", resume=True, match='"ours"'))
    assert (tmp_path / "log").read_text().count("ours") == log.count("ours") + 1


def test_ratios_are_of_medians_against_the_best_peer(tools: Path) -> None:
    import compare

    del tools
    values = {"w2sr_jax": [9.0, 1.0, 10.0], "peer": [3.0, 2.0, 2.5], "other": [1.0, 4.5, 6.0], "slow": [1.0, 1.0, 1.0]}
    result = compare.compare(*(lambda f: (f, f["lines"][0]))(found(values, peers=["peer", "other", "slow"], target=2.5)))
    assert result is not None
    assert (result["peer_name"], result["ratio"], result["reached"]) == ("other", 2.0, False)
    assert result["rounds"] == {"median": 10 / 6, "low": 1 / 4.5, "high": 9.0, "count": 3}

    lower = found({"w2sr_jax": [1.0], "peer": [4.0], "other": [5.0]}, better="lower", peers=["other", "peer"], target=0.25)
    result = compare.compare(lower, lower["lines"][0])
    assert result is not None
    assert (result["peer_name"], result["ratio"], result["reached"]) == ("peer", 0.25, True)

    absent = found({"w2sr_jax": [1.0]})
    assert compare.compare(absent, absent["lines"][0]) is None


def test_page_of_measurements(tools: Path, tmp_path: Path) -> None:
    import report

    del tools
    training = found({"w2sr_jax": [8.0, 9.0, 7.0], "peer": [4.0, 4.0, 5.0]}, target=2.5, limit="matmul_gflops")
    training["runs"].append({"variant": "peer", "round": 3, "found": {}, "error": "Traceback\nMemoryError: full", "seconds": 1.0})
    limits = {**found({"XLA": [40.0], "torch": [32.0]}), "subject": "limits", "title": "Limits"}
    limits["lines"] = [{**limits["lines"][0], "name": n, "ours": n, "metric": "rate", "peers": []} for n in ("XLA", "torch")]
    for run in limits["runs"]:
        run["found"] = {"case": {"matmul_gflops": run["found"]["case"]["rate"]}}
    for line in limits["lines"]:
        line["metric"] = "matmul_gflops"
    for one in (training, limits):
        (tmp_path / f"{one['subject']}.json").write_text(json.dumps(one))
    (tmp_path / "training.md").write_text("Memory traffic stands in the way.")

    page = report.page(tmp_path)
    assert "| Training | job | peer | ≥ 2.5× | 2.00× | **no** |" in page
    assert "| job | 1/s | 8.00 (7.00–9.00) | peer | 4.00 (4.00–5.00) | **2.00×** | 1.40–2.25 | ≥ 2.5× | **no** | 20 % |" in page
    assert "peer failed: MemoryError: full" in page
    assert "Memory traffic stands in the way." in page
    assert "Measured on 2026-01-02; 3 rounds; A core (f; avx); 1 of 2 cores; 8 GiB; Linux; Python 3.11; jax 0.0.1." in page
    assert page.index("## Training") < page.index("## Limits")

    (tmp_path / "other.json").write_text('{"schema": 99}')
    with pytest.raises(SystemExit, match=r"other\.json is not a measurement"):
        report.page(tmp_path)
    with pytest.raises(SystemExit, match="holds no measurements"):
        report.page(tmp_path / "nowhere")


def test_our_side_of_each_benchmark_runs_and_gives_what_the_tables_ask_for(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import data
    import harness
    import loss_memory
    import reference
    import sampling
    import saving
    import training

    del tools
    monkeypatch.setenv(harness.SCRATCH, str(tmp_path))
    for module in (training, reference, sampling, saving, loss_memory, data):
        subject = module.SUBJECT
        measured: dict[str, dict[str, float]] = {}
        for job in subject.jobs(True):
            if module is reference or job.variant == "w2sr_jax":
                for case, metrics in subject.works[job.work](**job.options).items():
                    measured.setdefault(case, {}).update(metrics)
        for line in subject.lines(True):
            assert measured[line.case][line.metric] > 0, (subject.name, line.name)
        for quick in (True, False):
            variants = {job.variant for job in subject.jobs(quick)}
            for line in subject.lines(quick):
                assert {line.ours, *line.peers} <= variants, (subject.name, line.name)
        assert all(job.work in subject.works for job in subject.jobs(False))


def test_documents_have_the_lengths_of_real_traces(tools: Path, shared_data: Path) -> None:
    import gzip
    import re

    import numpy as np
    import shapes

    del tools
    real = []
    for path in sorted((shared_data / "traces").glob("*gsm8k*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                real.append(len(re.findall(r"[A-Za-z]+|\d|[^\sA-Za-z\d]|\n", f"{row['question']}\n{row['trace']}")))
    quartiles = np.percentile(shapes.lengths(5000), [25, 50, 75])
    np.testing.assert_allclose(quartiles, np.percentile(real, [25, 50, 75]), rtol=0.1)
