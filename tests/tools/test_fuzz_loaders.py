"""The fuzzer of loaders: its short setting finds nothing, and it finds what is planted."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from w2sr_jax.problems import rows
from w2sr_jax.teachers import reading

ROOT = Path(__file__).resolve().parents[2]
FUZZ = ROOT / "tools" / "fuzz"


@pytest.fixture
def row_cases(monkeypatch):
    monkeypatch.syspath_prepend(FUZZ)
    import row_cases

    return row_cases


def test_hundreds_of_malformed_inputs_find_nothing(tmp_path):
    command = [sys.executable, str(FUZZ / "loaders.py"), "--short", "--out", str(tmp_path / "findings")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    total = done.stdout.strip().splitlines()[-1].split()
    assert total[0] == "all"
    assert int(total[1]) >= 420
    assert min(int(number.replace(",", "")) for number in total[2:6]) > 50  # accepted, rows, bad rows and refusals all occur
    assert not (tmp_path / "findings").exists()


def cases(judge, tmp_path, count=60):
    for case in range(count):
        folder = tmp_path / str(case)
        folder.mkdir()
        judge(random.Random(case), folder)


def drop_last_good(path, limit=None, read=rows.read_rows):
    found = list(read(path, limit))
    return iter(found[:-1])


def hide_bad(path, limit=None, read=rows.read_rows):
    return (row for row in read(path, limit) if row.fault is None)


@pytest.mark.parametrize("fault", [drop_last_good, hide_bad])
@pytest.mark.parametrize("kind", ["problems.jsonl, bytes", "problems.jsonl, rows", "traces.jsonl, rows"])
def test_lost_and_uncounted_rows_are_found(row_cases, tmp_path, monkeypatch, fault, kind):
    monkeypatch.setattr(row_cases.files, "read_rows", fault)
    monkeypatch.setattr(reading, "read_rows", fault)
    with pytest.raises(row_cases.Broken):
        cases(row_cases.KINDS[kind], tmp_path)


def test_unnoticed_damage_is_found(row_cases, tmp_path, monkeypatch):
    monkeypatch.setattr(row_cases.records.tables, "digest", lambda table: "same")
    monkeypatch.setattr(row_cases.records.pq, "write_table", _without_checksums(row_cases.records.pq.write_table))
    with pytest.raises(row_cases.Broken, match="without being noticed"):
        cases(row_cases.KINDS["own Parquet, bytes"], tmp_path, 300)


def _without_checksums(write):
    return lambda *args, **options: write(*args, **(options | {"write_page_checksum": False, "compression": "none"}))


def test_a_crash_is_a_finding_and_the_other_cases_still_run(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(FUZZ)
    import loaders

    script = tmp_path / "worker.py"
    script.write_text(
        "import json, os, sys\n"
        "for job in range(int(sys.argv[4]), 10):\n"
        "    print(json.dumps({'job': job}), flush=True)\n"
        "    if job == 7: os.abort()\n"
        "    print(json.dumps({'job': job, 'accepted': True, 'said': ''}), flush=True)\n"
    )
    monkeypatch.setattr(loaders, "HERE", script)
    found = list(loaders.supervise(["first", "any"], 5, 0, tmp_path / "findings"))
    assert [(kind, one["job"]) for kind, one in found] == [("first" if job < 5 else "any", job) for job in range(10)]
    assert [one["job"] for _, one in found if "broken" in one] == [7]
    assert "ended with -6" in (tmp_path / "findings" / "any-2" / "why.txt").read_text()
