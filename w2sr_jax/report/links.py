"""Which cell of the page leads where: addresses of evidence pages that exist, and of their groups."""

import dataclasses
from collections.abc import Iterable, Mapping

from w2sr_jax.report import evidence
from w2sr_jax.report.evidence import FOLDER, Evidence


@dataclasses.dataclass(frozen=True)
class Links:
    """`groups` of each page that is written beside `index.html`, by the page's key."""

    groups: Mapping[str, frozenset[str]]

    def to(self, key: str | None, *groups: str) -> str | None:
        """The address of the page's first group among those named that it has, or of its top; None where there is no page."""
        if key is None or key not in self.groups:
            return None
        found = next((group for group in groups if group in self.groups[key]), None)
        page = f"{FOLDER}/{evidence.file_name(key)}"
        return page if found is None else f"{page}#{evidence.anchor(found)}"


def links(pages: Iterable[Evidence]) -> Links:
    return Links({page.key: frozenset(page.groups) for page in pages})
