"""What came of a reproduction: stage by stage, as sentences and as JSON."""

import dataclasses
from pathlib import Path
from typing import Any, Literal, NamedTuple

from w2sr_jax.runs.diff import Difference

Outcome = Literal["identical", "different", "follows", "damaged", "unfinished"]
_WORDS = {"follows": "its inputs differ", "unfinished": "not finished in the run", "damaged": "changed on disk since"}


class Condition(NamedTuple):
    """Something a bit-exact claim is conditional on that is not as it was."""

    name: str
    was: str
    now: str

    def words(self) -> str:
        return f"{self.name} was {self.was or 'not recorded'}, is {self.now or 'not recorded'}"


@dataclasses.dataclass(frozen=True)
class StageComparison:
    """One stage. "different": from equal inputs. "follows": its inputs differ already. "damaged": what the stage made is what its
    manifest says, but the run's files are not any more. "unfinished": the run has not finished it."""

    stage: str
    outcome: Outcome
    was: str | None = None
    now: str | None = None
    differences: tuple[Difference, ...] = ()
    conditions: tuple[Condition, ...] = ()

    def words(self) -> str:
        """What came of it and where the first difference is."""
        first = f": {self.differences[0].path}: {self.differences[0].words}" if self.differences else ""
        return f"{self.outcome}{first}"


@dataclasses.dataclass(frozen=True)
class Reproduction:
    """What came of it. `into` is None where the rerun was removed again."""

    run: Path
    into: Path | None
    asked: str | None
    when: str
    stages: tuple[StageComparison, ...]

    @property
    def identical(self) -> bool:
        """Whether all that was compared is identical."""
        return all(stage.outcome in ("identical", "unfinished") for stage in self.stages)

    @property
    def conditions(self) -> list[Condition]:
        """What is not as it was, each once."""
        return list(dict.fromkeys(condition for stage in self.stages for condition in stage.conditions))

    def text(self) -> str:
        """A line per stage and the verdict."""
        width = max((len(stage.stage) for stage in self.stages), default=0)
        lines = [f"{s.outcome:<10}  {s.stage:<{width}}  {_WORDS.get(s.outcome) or _digests(s)}" for s in self.stages]
        return "\n".join([*lines, "", *self.verdict()]) + "\n"

    def verdict(self) -> list[str]:
        """Sentences: whether the run reproduced, and if not, where it first differs and what is not as it was."""
        done = [stage for stage in self.stages if stage.outcome != "unfinished"]
        left = len(self.stages) - len(done)
        wrong = [stage for stage in done if stage.outcome != "identical"]
        if not wrong:
            lines = [f"Reproduced: {_count(len(done), 'stage')} of {self.run} came out with the same digests."]
        else:
            lines = [f"Not reproduced: the first stage of {self.run} that is not as it was is {wrong[0].stage}."]
            lines += [f"  {difference.path}: {difference.words}" for difference in wrong[0].differences]
            own = [stage.stage for stage in wrong[1:] if stage.outcome != "follows"]
            follow = sum(stage.outcome == "follows" for stage in wrong)
            lines += [f"From equal inputs these differ too: {', '.join(own)}."] if own else []
            lines += [f"{_count(follow, 'stage')} differ because their inputs do."] if follow else []
        if left:
            lines.append(f"The run is unfinished: {_count(left, 'stage')} had nothing to compare with.")
        if self.conditions:
            lines.append(f"Not as it was: {'; '.join(condition.words() for condition in self.conditions)}.")
        elif any(stage.outcome == "different" for stage in wrong):
            lines.append("Versions, device kind, cores, mesh and flags are as they were.")
        if self.into is not None:
            lines.append(f"The rerun is in {self.into}.")
        return lines

    def plain(self) -> dict[str, Any]:
        """The same as JSON."""
        return {
            "run": str(self.run),
            "into": None if self.into is None else str(self.into),
            "stage": self.asked,
            "when": self.when,
            "identical": self.identical,
            "verdict": self.verdict(),
            "conditions": [condition._asdict() for condition in self.conditions],
            "stages": [
                {
                    "stage": stage.stage,
                    "outcome": stage.outcome,
                    "was": stage.was,
                    "now": stage.now,
                    "differences": [difference._asdict() for difference in stage.differences],
                }
                for stage in self.stages
            ],
        }


def _digests(stage: StageComparison) -> str:
    was, now = (stage.was or "")[:16], (stage.now or "")[:16]
    return was if was == now else f"{was} was, {now} is"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
