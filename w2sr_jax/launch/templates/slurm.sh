#!/usr/bin/env bash
#SBATCH --job-name={{ job.name }}
#SBATCH --nodes={{ job.hosts.nodes }}
#SBATCH --ntasks-per-node=1
{% if job.hosts.gpus %}
#SBATCH --gpus-per-node={{ job.hosts.gpus }}
{% endif %}
{% if exclusive %}
#SBATCH --exclusive
{% endif %}
{% for name, value in options %}
#SBATCH --{{ name }}={{ value | raw }}
{% endfor %}
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=TERM@{{ notice }}

# This file's own words go to NAME-JOB.log where it was submitted, those of task N to {{ log | raw | replace("\n", " ") }}.
set -u
restarts={{ job.restarts }}
mkdir -p {{ job.logs }}

# Slurm tells this shell itself to end where the job is cancelled, or preempted and queued again by Slurm.
stopped=
trap 'stopped=yes' TERM

meeting=()
{% if several %}
if [ "${SLURM_NNODES}" -ne {{ job.hosts.nodes }} ]; then
    echo "this job was written for {{ job.hosts.nodes }} nodes and has ${SLURM_NNODES}; submit it as it is" >&2
    exit 2
fi
# Process 0 runs on the first node. The port is the job's own, below those that systems give away.
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
coordinator=${JAX_COORDINATOR_ADDRESS:-$first:$((10000 + SLURM_JOB_ID % 20000))}
meeting=(--coordinator "$coordinator" --processes {{ job.hosts.nodes }})
task='"$@" --process "$SLURM_PROCID"'
{% else %}
task='"$@"'
{% endif %}

# srun returns the highest code of its tasks. Codes after which nothing is to be started again must be the highest.
task="trap : TERM; $task"'; code=$?; case $code in {{ final | raw }}) exit $((code + {{ shift }}));; esac; exit $code'
command=({{ program }})
srun --kill-on-bad-exit=1 --cpu-bind=none --open-mode=append --output={{ log }} \
    bash -c "$task" task "${command[@]}" ${meeting[@]+"${meeting[@]}"}
code=$?

if [ "$code" -gt {{ shift }} ] && [ "$code" -lt {{ shift + 10 }} ]; then
    exit $((code - {{ shift }}))
fi
if [ "$code" -ne {{ lost }} ] && [ "$code" -lt 128 ] || [ -n "$stopped" ]; then
    exit "$code"
fi
if [ "${SLURM_RESTART_COUNT:-0}" -ge "$restarts" ]; then
    echo "exit code $code, and restarted $restarts times; the same job goes on where it stopped" >&2
    exit "$code"
fi
echo "exit code $code: queued again"
scontrol requeue "$SLURM_JOB_ID"
exit "$code"
