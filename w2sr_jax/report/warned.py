"""What was warned of while a run went on: first what concerns the headline, then what concerns students that it does not use."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from w2sr_jax.report import rule

_ABOUT = re.compile(r"(?:seed -?\d+, )?([^\s:]+): ")


class Warnings(NamedTuple):
    """Sentences as the run said them. Those of `aside` are about arms that speak for no rung."""

    headline: list[str]
    aside: list[str]


def warned(results: Mapping[str, Any]) -> Warnings:
    """The warnings of `results.json`, each on the side of the model that its first word names."""
    unused = _unused(results)
    found = Warnings([], [])
    for text in map(str, results.get("warnings") or []):
        about = _ABOUT.match(text)
        (found.aside if about and about[1] in unused else found.headline).append(text)
    return found


def _unused(results: Mapping[str, Any]) -> set[str]:
    """The students that speak for no rung, nor teach one that does, by their names."""
    names: set[str] = set()
    used: set[str] = set()
    for rung in rule.ordered(results):
        models = rung.get("models") or {}
        speaks = {rule.headline_arm(rung), "base", "base-direct"}
        names |= {str(name) for arm, name in models.items() if arm not in speaks}
        used |= {str(name) for arm, name in models.items() if arm in speaks} | set(map(str, rung.get("teachers") or []))
    return names - used
