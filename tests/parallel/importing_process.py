"""Run by test_lost_processes as one process of `w2sr import`: `importing_process.py WHAT ARGUMENTS…`, where WHAT happens to it
once the parameters are about to be written."""

import os
import signal
import sys
import time

from w2sr_jax.cli import main as cli
from w2sr_jax.core.errors import UserError
from w2sr_jax.parallel import peers
from w2sr_jax.training import checkpoints


def happens(what: str) -> None:
    if what == "fails":
        raise UserError("this one cannot go on")
    if what == "is at fault":
        raise RuntimeError("an odd fault")
    if what != "nothing":
        os.kill(os.getpid(), {"is killed": signal.SIGKILL, "is stopped": signal.SIGSTOP, "is terminated": signal.SIGTERM}[what])
        time.sleep(30)


def main(what: str) -> None:
    save = checkpoints.save_params

    def save_params(*arguments):  # type: ignore[no-untyped-def]
        happens(what)
        return save(*arguments)

    checkpoints.save_params = save_params
    peers.SILENT = 4.0
    cli.main(sys.argv[2:])


if __name__ == "__main__":
    main(sys.argv[1])
