"""A finished run is damaged in some of its files (tools/damage): every command that reads them names them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import xla_flags

TOOL = Path(__file__).resolve().parents[2] / "tools" / "damage"


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel that tells which files are opened is Linux")
def test_no_command_takes_damage_for_what_the_run_wrote() -> None:
    one = {**os.environ, "XLA_FLAGS": xla_flags.devices(1)}  # one device, for batches of two rows
    command = [sys.executable, TOOL / "damage.py", "--short"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=one)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.endswith("0 silent acceptances\n")
    (summary,) = re.findall(r"^(\d+) files, \d+ trials: (?:.*, )?(\d+) refused", done.stdout, re.M)
    files, refused = map(int, summary)
    assert files >= 16
    assert refused >= 16  # it can see a refusal, and damage does reach what is read
