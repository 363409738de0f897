"""What a pool and its workers write to each other, a JSON line each."""

import json
from typing import Literal, NamedTuple

Kind = Literal["begin", "progress", "end", "say", "warn", "done", "failed"]


class Order(NamedTuple):
    """Do a stage of the run in `directory`; `name` is what that run is called by its trackers."""

    directory: str
    stage: str
    name: str

    def line(self) -> str:
        return json.dumps(self) + "\n"

    @staticmethod
    def read(line: str) -> "Order":
        return Order(*json.loads(line))


class Event(NamedTuple):
    """What a `graph.stage.Watcher` is told of a stage, that it is done, or why it failed (in `text`)."""

    kind: Kind
    text: str = ""
    done: float = 0.0
    total: float = 0.0
    seconds: float | None = None

    def line(self) -> str:
        return json.dumps(self) + "\n"

    @staticmethod
    def read(line: str) -> "Event":
        return Event(*json.loads(line))
