"""What each cluster's tool would read: every word of the command, on every host, and nothing of it executed on the way."""

import re
import signal
import subprocess

import jobs
import pytest
import yaml

from w2sr_jax.core.errors import UserError
from w2sr_jax.launch import hosts, launch
from w2sr_jax.launch.job import Environment, Root

ARGUMENTS = ("--name", "a name", "--require", "vs_teacher>0")
SAYS_WORDS = "printf '%s\\0' \"$@\" >words"
"""Of a stand-in: writes down how it was called."""


def words(folder) -> list[str]:
    return (folder / "words").read_text(encoding="utf-8").split("\0")[:-1]


@pytest.mark.parametrize("config", ["configs/quickstart.py", jobs.HOSTILE], ids=["plain", "hostile"])
@pytest.mark.parametrize("cluster", launch.CLUSTERS)
def test_scripts_are_bash_and_the_rest_is_yaml(cluster: str, config: str, tmp_path) -> None:
    written = launch.written(cluster, jobs.job(cluster, config, (*ARGUMENTS, config)), jobs.SETTINGS[cluster])
    if written.suffix == ".yaml":
        assert isinstance(yaml.safe_load(written.text), dict)
        return
    (tmp_path / "job.sh").write_text(written.text, encoding="utf-8")
    assert jobs.run(f"bash -n {tmp_path}/job.sh", tmp_path).stderr == ""


@pytest.mark.parametrize("config", ["configs/quickstart.py", jobs.HOSTILE], ids=["plain", "hostile"])
def test_slurm_runs_the_command_in_every_task(config: str, tmp_path) -> None:
    job = jobs.job("slurm", config, ARGUMENTS, root=Root(jobs.HOSTILE, shared=True), logs="lo gs")
    jobs.program(tmp_path, "scontrol", "echo node1; echo node2")
    jobs.program(
        tmp_path, "srun", 'while [ "$1" != bash ]; do shift; done; for SLURM_PROCID in 1 0; do export SLURM_PROCID; "$@"; done'
    )
    jobs.program(tmp_path, "w2sr", SAYS_WORDS)
    variables = {"SLURM_NNODES": "2", "SLURM_JOB_ID": "20007", "SLURM_JOB_NODELIST": "node[1-2]"}
    done = jobs.run(jobs.text("slurm", job), tmp_path, variables)
    assert (done.returncode, done.stderr) == (0, "")
    meeting = ["--coordinator", "node1:10007", "--processes", "2", "--process", "0"]
    assert words(tmp_path) == [*job.run()[1:], *meeting]
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("codes", "code", "again"),
    [
        ((0, 0), 0, False),
        ((2, 143), 2, False),  # one host's mistake; srun ends the other
        ((3, 3), 3, False),
        ((1, 75), 1, False),
        ((127, 0), 127, False),
        ((75, 75), 75, True),
        ((137, 75), 137, True),
        ((134, 143), 143, True),
        ((143, 143), 143, True),
    ],
)
def test_slurm_starts_a_job_again_after_what_is_worth_it(codes, code: int, again: bool, tmp_path) -> None:
    jobs.program(tmp_path, "scontrol", 'if [ "$1" = requeue ]; then echo "$2" >again; else echo node1; fi')
    tasks = 'highest=0; for SLURM_PROCID in 0 1; do export SLURM_PROCID; "$@"; c=$?; [ $c -gt $highest ] && highest=$c; done'
    jobs.program(tmp_path, "srun", f'while [ "$1" != bash ]; do shift; done; {tasks}; exit $highest')
    jobs.program(tmp_path, "w2sr", f"codes=({codes[0]} {codes[1]}); exit ${{codes[$SLURM_PROCID]}}")
    script = jobs.text("slurm", jobs.job("slurm", restarts=3))
    variables = {"SLURM_NNODES": "2", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n"}
    assert jobs.run(script, tmp_path, variables).returncode == code
    assert (tmp_path / "again").exists() == again
    (tmp_path / "again").unlink(missing_ok=True)
    assert jobs.run(script, tmp_path, {**variables, "SLURM_RESTART_COUNT": "3"}).returncode == code
    assert not (tmp_path / "again").exists()


def test_slurm_refuses_another_number_of_nodes(tmp_path) -> None:
    jobs.program(tmp_path, "srun", "touch ran")
    variables = {"SLURM_NNODES": "1", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n"}
    assert jobs.run(jobs.text("slurm", jobs.job("slurm")), tmp_path, variables).returncode == 2
    assert not (tmp_path / "ran").exists()


def test_slurm_has_one_task_of_every_node_and_the_settings() -> None:
    text = jobs.text("slurm", jobs.job("slurm"), "partition=gpu", "time=24:00:00", "exclusive=no")
    directives = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", text, re.M))
    assert directives.items() >= {"nodes": "2", "ntasks-per-node": "1", "gpus-per-node": "8", "partition": "gpu"}.items()
    assert directives["signal"] == "TERM@180"
    assert "requeue" in directives
    assert "exclusive" not in directives


@pytest.mark.parametrize("config", ["configs/quickstart.py", jobs.HOSTILE], ids=["plain", "hostile"])
def test_jobset_has_a_pod_for_every_host(config: str) -> None:
    job = jobs.job("jobset", config, ARGUMENTS, hosts=hosts.resolved(None, "v5p:2x2x4", 2, 0))
    jobset = yaml.safe_load(jobs.text("jobset", job, "service-account=runner"))
    (replicated,) = jobset["spec"]["replicatedJobs"]
    spec = replicated["template"]["spec"]
    assert (replicated["replicas"], spec["parallelism"], spec["completions"], spec["backoffLimit"]) == (2, 4, 4, 0)
    (rule,) = spec["podFailurePolicy"]["rules"]
    assert {1, 2, 3} <= set(rule["onExitCodes"]["values"])
    assert not {75, 134, 137, 143} & set(rule["onExitCodes"]["values"])
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert [word.replace("$$", "$") for word in container["command"]] == list(job.detected())
    assert container["resources"]["limits"] == {"google.com/tpu": "4"}
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == "2x2x4"
    assert pod["serviceAccountName"] == "runner"
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/scratch"]


def test_pods_without_tpus_meet_at_the_first_ones_name() -> None:
    job = jobs.job("jobset", root=Root("/runs", shared=True), scratch="")
    (replicated,) = yaml.safe_load(jobs.text("jobset", job, "claim=disk"))["spec"]["replicatedJobs"]
    pod = replicated["template"]["spec"]["template"]["spec"]
    command = pod["containers"][0]["command"]
    assert command[-6:] == [
        "--coordinator",
        "name-hosts-0-0.name:4000",
        "--processes",
        "2",
        "--process",
        "$(JOB_COMPLETION_INDEX)",
    ]
    claims = {volume["name"]: volume["persistentVolumeClaim"] for volume in pod["volumes"] if "persistentVolumeClaim" in volume}
    assert claims == {"root": {"claimName": "disk"}}


@pytest.mark.parametrize("config", ["configs/quickstart.py", jobs.HOSTILE], ids=["plain", "hostile"])
def test_skypilot_runs_the_command_on_every_node(config: str, tmp_path) -> None:
    job = jobs.job("skypilot", config, ARGUMENTS)
    task = yaml.safe_load(jobs.text("skypilot", job))
    assert (task["num_nodes"], task["resources"]["accelerators"]) == (2, "H100:8")
    jobs.program(tmp_path, "w2sr", SAYS_WORDS)
    (tmp_path / "w2sr-environment").mkdir()
    (tmp_path / "bin").rename(tmp_path / "w2sr-environment" / "bin")
    variables = {"SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1"}
    done = jobs.run(task["run"], tmp_path, variables)
    assert (done.returncode, done.stderr) == (0, "")
    assert words(tmp_path) == [*job.run()[1:], "--coordinator", "10.0.0.1:4000", "--processes", "2", "--process", "1"]
    assert jobs.run(task["run"], tmp_path, {**variables, "SKYPILOT_NUM_NODES": "1"}).returncode == 2


def test_skypilot_never_starts_again_after_a_mistake(tmp_path) -> None:
    task = yaml.safe_load(jobs.text("skypilot", jobs.job("skypilot")))
    recovery = task["resources"]["job_recovery"]
    assert recovery["max_restarts_on_errors"] == 0
    assert {75, 134, 143} <= set(recovery["recover_on_exit_codes"])
    assert not {1, 2, 3, 137} & set(recovery["recover_on_exit_codes"])  # 137: SkyPilot's own, for the other hosts


@pytest.mark.parametrize("config", ["configs/quickstart.py", jobs.HOSTILE], ids=["plain", "hostile"])
def test_xpk_is_called_once_with_the_command(config: str, tmp_path) -> None:
    job = jobs.job("xpk", config, ARGUMENTS, hosts=hosts.resolved(None, "v5p:2x2x4", 2, 0))
    jobs.program(tmp_path, "xpk", SAYS_WORDS)
    assert jobs.run(jobs.text("xpk", job, "capacity=spot"), tmp_path).returncode == 0
    options = dict(word.partition("=")[::2] for word in words(tmp_path)[2:])
    assert words(tmp_path)[:2] == ["workload", "create"]
    assert (options["--tpu-type"], options["--num-slices"], "--spot" in options) == ("v5p-32", "2", True)
    assert options["--restart-on-exit-codes"] == "75"
    jobs.program(tmp_path, "w2sr", SAYS_WORDS)
    jobs.run(options["--command"].replace("$$", "$"), tmp_path)
    assert words(tmp_path) == list(job.detected()[1:])
    assert not (tmp_path / "executed").exists()


GCLOUD = """
echo "$3 $4" >>calls
case "$4" in
    describe) cat state; [ -s state ] ;;
    create) echo ACTIVE >state ;;
    delete) : >state ;;
    ssh)
        for word; do case $word in --command=*) command=${word#--command=};; esac; done
        case "$command" in
            *w2sr-job.tar.gz*) exit 0 ;;
            *) bash -c "$command"; code=$?; [ -s after ] && cp after state; rm -f after; exit $code ;;
        esac ;;
esac
"""


@pytest.fixture
def workers(tmp_path):
    """A gcloud that has one worker: this machine."""
    jobs.program(tmp_path, "gcloud", GCLOUD)
    jobs.program(tmp_path, "sleep", "exit 0")
    (tmp_path / "state").touch()
    (tmp_path / "w2sr-job").mkdir()
    inside = tmp_path / "w2sr-environment" / "bin" / "w2sr"
    inside.parent.mkdir(parents=True)

    def act(lines: str) -> None:
        inside.write_text(f"#!/usr/bin/env bash\n{lines}\n")
        inside.chmod(0o755)

    return act


@pytest.mark.parametrize("config", ["configs/quickstart.py", jobs.HOSTILE], ids=["plain", "hostile"])
def test_tpu_vm_asks_prepares_runs_and_gives_back(config: str, tmp_path, workers) -> None:
    workers(f"cd {tmp_path}; {SAYS_WORDS}")
    job = jobs.job("tpu-vm", config, ARGUMENTS, environment=Environment(install=jobs.HOSTILE))
    assert jobs.run(jobs.text("tpu-vm", job), tmp_path).returncode == 0
    assert words(tmp_path) == list(job.detected()[1:])
    calls = (tmp_path / "calls").read_text().split("\n")[:-1]
    assert [call.split()[1] for call in calls] == ["describe", "create", "describe", "scp", "ssh", "ssh", "delete"]
    assert not list(tmp_path.rglob("executed"))


@pytest.mark.parametrize(
    ("first", "after", "code", "runs", "created"),
    [
        (143, "", 0, 2, 1),  # stopped, the TPU stayed
        (255, "SUSPENDED", 0, 2, 2),  # the TPU was taken away
        (2, "", 2, 1, 1),
        (1, "", 1, 1, 1),
        (3, "", 3, 1, 1),
    ],
)
def test_tpu_vm_starts_again_after_what_is_worth_it(first, after, code, runs, created, tmp_path, workers) -> None:
    lost = f"echo {after} >{tmp_path}/after;" if after else ""
    workers(f"echo run >>{tmp_path}/runs; [ $(wc -l <{tmp_path}/runs) = 1 ] && {{ {lost} exit {first}; }}; exit 0")
    assert jobs.run(jobs.text("tpu-vm", jobs.job("tpu-vm")), tmp_path).returncode == code
    assert (tmp_path / "runs").read_text().count("run") == runs
    assert (tmp_path / "calls").read_text().count(" create") == created


def test_a_tpu_vms_earlier_start_ends_before_the_next_one_is_prepared(tmp_path) -> None:
    """It may still be at work where only the connection to it was lost."""
    jobs.program(tmp_path, "tar", "exit 0")
    jobs.program(tmp_path, "python3", "exit 0")
    jobs.program(tmp_path, "sleep", "exit 0")
    earlier = subprocess.Popen(["/bin/sleep", "60"])
    (tmp_path / "w2sr-job.pid").write_text(f"{earlier.pid}\n")
    prepare = jobs.text("tpu-vm", jobs.job("tpu-vm")).split("<<'PREPARE'\n")[1].split("\nPREPARE\n")[0]
    assert jobs.run(prepare, tmp_path).returncode == 0
    assert earlier.wait(timeout=30) == -signal.SIGTERM
    assert not (tmp_path / "w2sr-job.pid").exists()
    assert jobs.run(prepare, tmp_path).returncode == 0


def test_bare_hosts_install_what_the_lock_file_says_first(tmp_path) -> None:
    jobs.program(tmp_path, "python3", 'echo "$*" >>installed')
    job = jobs.job("skypilot", environment=Environment(install=".", lock="requirements.lock"))
    assert jobs.run(yaml.safe_load(jobs.text("skypilot", job))["setup"], tmp_path).returncode == 0
    lines = (tmp_path / "installed").read_text().splitlines()
    assert lines[-2].endswith("--require-hashes -r requirements.lock")
    assert lines[-1].endswith(" .[cuda,gcs]")


@pytest.mark.parametrize(
    ("cluster", "changes", "settings", "words"),
    [
        ("jobset", {"environment": Environment()}, (), "give --image"),
        ("xpk", {"environment": Environment()}, (), "give --image"),
        ("xpk", {"hosts": jobs.GPUS}, (), "give --topology"),
        ("jobset", {"root": Root("/runs", shared=True)}, (), "--set claim="),
        ("jobset", {}, ("claim=c",), "leave one out"),
        ("jobset", {"scratch": "scratch"}, (), "no absolute path"),
        ("tpu-vm", {"hosts": jobs.GPUS}, (), "needs --topology"),
        ("tpu-vm", {}, ("worker=0",), "on part of the 4 hosts"),
        ("tpu-vm", {"hosts": hosts.resolved(None, "v5p:2x2x4", 2, 0)}, (), "has 4 hosts, not 8"),
        ("tpu-vm", {"hosts": hosts.resolved(2, "v5e:2x4", 1, 0)}, (), "has 1 host, not 2"),
        ("tpu-vm", {}, ("capacity=cheap",), "there are on-demand"),
        ("tpu-vm", {"environment": Environment(install="-r x")}, (), "an option of pip"),
        ("tpu-vm", {"config": "/elsewhere/a.py"}, (), "outside of the working directory"),
        ("skypilot", {"config": "../a.py"}, (), "outside of the working directory"),
        ("slurm", {}, ("time=1 day",), "is no value"),
        ("slurm", {}, ("partition=a\n#SBATCH --uid=0",), "is no value"),
        ("slurm", {}, ("partitoin=a",), "did you mean 'partition'"),
        ("slurm", {}, ("notice=soon",), "write seconds"),
        ("slurm", {}, ("exclusive=maybe",), "write yes or no"),
        ("slurm", {"restarts": -1}, (), "--restarts is -1"),
        ("slurm", {"logs": "a\0b"}, (), "no script can"),
    ],
)
def test_what_would_not_run_is_refused(cluster: str, changes, settings, words: str) -> None:
    with pytest.raises(UserError) as refused:
        jobs.text(cluster, jobs.job(cluster, **changes), *settings)
    assert words in str(refused.value)


def test_settings_that_are_needed_are_asked_for() -> None:
    with pytest.raises(UserError, match="needs --set zone"):
        launch.written("tpu-vm", jobs.job("tpu-vm"), ())
