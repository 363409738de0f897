"""Words as bash and YAML read them back."""

import subprocess

import jobs
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from w2sr_jax.core.errors import UserError
from w2sr_jax.launch import quoting

TEXTS = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_bash_reads_the_words_that_were_written(texts: list[str]) -> None:
    line = quoting.words(tuple(texts))
    read = subprocess.run(["bash"], input=f"printf '%s\\0' {line}\n".encode(), capture_output=True, check=True).stdout
    assert read.decode().split("\0")[:-1] == texts
    assert line.isprintable()


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_yaml_reads_the_text_that_was_written(texts: list[str]) -> None:
    line = "[" + ", ".join(map(quoting.yaml, texts)) + "]"
    assert yaml.safe_load(line) == texts
    assert line.isprintable()


def test_kubernetes_replaces_nothing() -> None:
    """Its rule: `$$` is `$`, and `$(NAME)` is a value."""
    written = quoting.kubernetes(jobs.HOSTILE)
    assert "$(" not in written.replace("$$", "")
    assert written.replace("$$", "$") == jobs.HOSTILE


@pytest.mark.parametrize("text", ["a\0b", "a\udcffb"])
def test_what_no_file_can_hold_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="no script can"):
        quoting.checked(text, "the argument")
