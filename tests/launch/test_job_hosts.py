"""How many hosts there are, and what is refused before it is asked of a cluster."""

import pytest

from w2sr_jax.core.errors import UserError
from w2sr_jax.launch import hosts
from w2sr_jax.launch import job as jobs
from w2sr_jax.launch.job import Root


@pytest.mark.parametrize(
    ("asked", "nodes", "per_slice", "chips", "gpus"),
    [
        ((4, None, 1, 8), 4, 4, 0, 8),
        ((1, None, 1, 0), 1, 1, 0, 0),
        ((None, "v5p:2x2x4", 1, 0), 4, 4, 4, 0),
        ((4, "v5p:2x2x4", 1, 0), 4, 4, 4, 0),
        ((None, "v5p:2x2x4", 3, 0), 12, 4, 4, 0),
        ((None, "v5e:2x4", 1, 0), 1, 1, 8, 0),
        ((2, "v5e:2x4", 1, 0), 2, 2, 4, 0),
        ((None, "v6e:1x1", 1, 0), 1, 1, 1, 0),
    ],
)
def test_the_hosts_of_what_is_asked_for(asked, nodes: int, per_slice: int, chips: int, gpus: int) -> None:
    got = hosts.resolved(*asked)
    assert (got.nodes, got.per_slice, got.chips, got.gpus) == (nodes, per_slice, chips, gpus)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ((1, "v5p:2x2x4", 1, 0), "has 4 hosts, and --nodes 1 would run on the head host only"),
        ((3, "v5p:2x2x4", 1, 0), "would run on 3 of them"),
        ((4, "v5p:2x2x4", 2, 0), "2 slices of v5p:2x2x4 have 8 hosts"),
        ((9, "v5p:2x2x4", 1, 0), "not 9"),
        ((3, "v5e:2x4", 1, 0), "1 host or 2 hosts, not 3"),
        ((None, "v5p:2x2x3", 1, 0), "v5p comes as"),
        ((None, "h100:8", 1, 0), "GPUs are asked for with --nodes"),
        ((None, None, 1, 8), "how many hosts"),
        ((2, None, 2, 0), "say which with --topology"),
        ((2, "v5e:4x4", 1, 8), "leave one of them out"),
        ((0, None, 1, 0), "--nodes is 0"),
        ((2, None, 1, -1), "--gpus is -1"),
        ((None, "v5e:4x4", 0, 0), "--slices is 0"),
    ],
)
def test_what_does_not_fit_is_refused(asked, words: str) -> None:
    with pytest.raises(UserError) as refused:
        hosts.resolved(*asked)
    assert words in str(refused.value)


SEVERAL, ONE = hosts.Hosts(2), hosts.Hosts(1)


@pytest.mark.parametrize(
    ("root", "where", "disks"),
    [
        (Root("gs://b/runs"), SEVERAL, "own"),
        (Root("s3://b/runs"), ONE, "own"),
        (Root("runs", shared=True), SEVERAL, "shared"),
        (Root("/shared/runs"), SEVERAL, "shared"),
        (Root("runs"), ONE, "shared"),
        (Root("/mnt/runs", shared=True), SEVERAL, "own"),
    ],
)
def test_roots_that_all_hosts_see(root: Root, where: hosts.Hosts, disks: str) -> None:
    jobs.check_root(root, where, disks)


@pytest.mark.parametrize(
    ("root", "where", "disks", "words"),
    [
        (Root("runs"), SEVERAL, "shared", "is a directory of this machine, and 2 hosts need one"),
        (Root("/tmp/runs"), SEVERAL, "shared", "another directory on each of the 2 hosts"),
        (Root("/mnt/runs"), SEVERAL, "own", "another directory on each of the 2 hosts"),
        (Root("file:///mnt/runs"), SEVERAL, "shared", "is a directory of this machine"),
        (Root("/mnt/runs"), ONE, "own", "on the host's own disk and goes with it"),
    ],
)
def test_roots_that_would_be_lost_are_refused(root: Root, where: hosts.Hosts, disks: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        jobs.check_root(root, where, disks)


@pytest.mark.parametrize(
    ("experiment", "name"),
    [("qwen3-math", "qwen3-math"), ("My_Run.2", "my-run-2"), ("3seeds", "w2sr-3seeds"), ("a" * 60, "a" * 40), ("…", "w2sr")],
)
def test_a_job_is_named_after_the_experiment(experiment: str, name: str) -> None:
    assert jobs.name_from(experiment) == name
    jobs.check_name(name)


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "a" * 41, "a\n", "a b"])
def test_names_that_some_cluster_refuses_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="names no job everywhere"):
        jobs.check_name(name)
