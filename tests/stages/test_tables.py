"""Tables are read once inside `remembered`, and anew outside."""

from pathlib import Path

from w2sr_jax.core import records
from w2sr_jax.core.records import Problem
from w2sr_jax.stages import tables


def test_a_table_is_read_once_while_remembered_and_anew_afterwards(tmp_path: Path) -> None:
    path, one, two = tmp_path / "a.parquet", Problem.of("a", "1"), Problem.of("b", "2")
    records.write(path, Problem, [one])
    with tables.remembered():
        first = tables.read(path, Problem)
        first.append(two)
        records.write(path, Problem, [two])
        assert tables.read(path, Problem) == [one]
    assert tables.read(path, Problem) == [two]
