"""What a tracker was sent of a training, in a file of the training's: under which id, and up to which step.

The file's first line holds the id and the training's owner, a digest of all that determines it; each further line a step that is
sent next. It is written before the step is sent, so that none is there twice. A process that is killed may take steps with it
that a tracker had not passed on; one that says what it holds gets these again.
"""

import json
import secrets
from pathlib import Path
from typing import IO, Any

from w2sr_jax.core import files


class Sent:
    """The file of one tracker and one training. Of another `owner` it is begun anew, with another id."""

    def __init__(self, path: Path, owner: str) -> None:
        lines = _lines(path)
        self.resumed = bool(lines) and lines[0].get("owner") == owner and isinstance(lines[0].get("id"), str)
        self._steps: dict[str, int] = {}
        if self.resumed:
            for line in lines[1:]:
                self._steps[str(line.get("group"))] = int(line.get("step", 0))
        else:
            lines = [{"owner": owner, "id": secrets.token_hex(16)}]
        self.id = str(lines[0]["id"])
        files.write_text(path, "".join(json.dumps(line) + "\n" for line in lines))
        self._sink: IO[str] = open(path, "a", encoding="utf-8")  # noqa: SIM115 (closed in close)

    def first_time(self, group: str, step: int) -> bool:
        """Whether the scalars of a group (`train`, `probe`) and step were not sent yet; from now on they count as sent."""
        if step <= self._steps.get(group, -1):
            return False
        self._steps[group] = step
        self._sink.write(json.dumps({"group": group, "step": step}) + "\n")
        self._sink.flush()
        return True

    def lost(self, reached: int) -> None:
        """What was sent after a step has not arrived, and counts as not sent."""
        self._steps = {group: min(step, reached) for group, step in self._steps.items()}

    def close(self) -> None:
        self._sink.close()


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of the file that are objects."""
    read = []
    for line in path.read_bytes().split(b"\n")[:-1] if path.is_file() else []:
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            read.append(value)
    return read
