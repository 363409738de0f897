#!/usr/bin/env bash
# A Slurm cluster of two nodes on this machine alone, as root (Debian: apt-get install slurmctld slurmd slurm-client munge).
#   bash tools/launch/cluster.sh start DIR      writes DIR/slurm.conf; export SLURM_CONF=DIR/slurm.conf to use it
#   bash tools/launch/cluster.sh stop DIR
set -euo pipefail
what=$1 dir=$(realpath -m "$2") host=$(hostname -s)
if [ "$what" = stop ]; then
    numbers=$(cat "$dir"/*.pid 2>/dev/null || true)
    for number in $numbers; do
        kill "$number" 2>/dev/null || true
    done
    for _ in $(seq 50); do
        [ -z "$(ps -o pid= -p "$(echo $numbers | tr ' ' ,)" --no-headers 2>/dev/null | tr -d ' ')" ] && break
        sleep 0.2
    done
    exit 0
fi
for tool in slurmctld slurmd sbatch munged mungekey; do
    command -v "$tool" >/dev/null || { echo "$tool is not here; apt-get install slurmctld slurmd slurm-client munge" >&2; exit 2; }
done
mkdir -p "$dir/state" "$dir/munge"
chown munge: "$dir/munge"
chmod 755 "$dir/munge"
# A key and a socket of its own: a munge that this machine runs is left alone.
mungekey --create --force --keyfile="$dir/munge/key"
chown munge: "$dir/munge/key"
runuser -u munge -- munged --key-file="$dir/munge/key" --socket="$dir/munge/socket" --pid-file="$dir/munge/pid" \
    --log-file="$dir/munge/log" --seed-file="$dir/munge/seed" --force
cp "$dir/munge/pid" "$dir/munged.pid"
cat >"$dir/slurm.conf" <<CONF
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=17817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket,cred_expire=5
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool-%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd-%n.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=5
ReturnToService=2
MpiDefault=none
KillWait=15
SrunPortRange=17900-17999
NodeName=n[1-2] NodeHostname=$host NodeAddr=127.0.0.1 Port=[17821-17822] CPUs=2 RealMemory=4000 State=UNKNOWN
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=first Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=2 PreemptMode=OFF
CONF
export SLURM_CONF=$dir/slurm.conf
slurmctld -c
for node in n1 n2; do
    mkdir -p "$dir/spool-$node"
    slurmd -N "$node"
done
for _ in $(seq 30); do
    [ "$(sinfo -h -N -o %T | sort -u)" = idle ] && exit 0
    sleep 1
done
echo "the nodes do not become idle; see $dir/slurmctld.log" >&2
exit 1
