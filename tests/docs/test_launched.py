"""Every job that the pages launch can be written, as the page has it."""

from pathlib import Path

import doc_pages
import pytest

from w2sr_jax.cli import main as cli

LINES = [
    words[1:] for block in doc_pages.every("bash") for words in doc_pages.command_lines(block) if words[:2] == ["w2sr", "launch"]
]


def test_every_kind_of_cluster_is_shown() -> None:
    from w2sr_jax.launch import launch

    assert {words[words.index("--on") + 1] for words in LINES} == set(launch.CLUSTERS)


@pytest.mark.parametrize("words", LINES, ids=" ".join)
def test_a_job_can_be_written(words: list[str], directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([word for word in words if word != "--submit"]) == 0
    assert words[1].partition("/")[2].removesuffix(".py").replace("_", "-") in capsys.readouterr().out
