"""All measurements of an accelerator, each in processes of its own and with a limit on its time.

    python tools/bench/gpu/run.py --device gpu --json OUT                       # some 10 minutes
    python tools/bench/gpu/run.py --device gpu --json OUT --only training --remat layers
    python tools/bench/gpu/run.py --device cpu --json OUT --rounds 1            # do they run?

OUT is a folder; each part writes OUT/gpu_NAME.json as it measures, so that what is done by the end of `--seconds` is kept.
Options not listed here go to every part: --device, --shape, --rounds, --attention, --remat, --parameters, --rows, --no-peer.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PARTS = {"limits": 60.0, "attention": 100.0, "sampling": 200.0, "training": 400.0}
"""In this order, with the seconds that each may take; what one leaves, the next ones have."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="folder of the results")
    parser.add_argument("--only", default=",".join(PARTS), help="parts to run, with commas between them")
    parser.add_argument("--seconds", type=float, default=570.0, help="for all parts together")
    given, rest = parser.parse_known_args()
    names = given.only.split(",")
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        parser.error(f"there is no part {unknown[0]!r}; parts are {', '.join(PARTS)}")
    end, failed = time.monotonic() + given.seconds, []
    for number, name in enumerate(names):
        left, later = end - time.monotonic(), sum(PARTS[other] for other in names[number + 1 :])
        seconds = max(left - later, left * PARTS[name] / (PARTS[name] + later))
        print(f"{name}: at most {seconds:.0f} s", flush=True)
        if not part(name, given.json, seconds, rest):
            failed.append(name)
    print(f"results in {given.json}" + (f"; failed: {', '.join(failed)}" if failed else ""), flush=True)
    raise SystemExit(1 if failed else 0)


def part(name: str, folder: Path, seconds: float, rest: list[str]) -> bool:
    """Runs a part; whether it ended well."""
    script = str(Path(__file__).with_name(f"{name}.py"))
    started = time.monotonic()
    # The part gives up by itself a little earlier, so that it can print what it has.
    command = [sys.executable, script, "--json", str(folder), "--seconds", str(max(1.0, seconds - 10)), *rest]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        code = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        code = -1
    print(f"{name}: {'done' if code == 0 else 'failed'} after {time.monotonic() - started:.0f} s", flush=True)
    return code == 0


if __name__ == "__main__":
    main()
