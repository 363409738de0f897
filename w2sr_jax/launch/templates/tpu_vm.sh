#!/usr/bin/env bash
# {{ job.hosts.nodes }} hosts. Run it where gcloud is, in the directory of the configuration's project, and leave it open (tmux): it asks for the
# TPU, waits for it, runs on all workers, shows what they print, and starts again where the TPU was taken away.
set -u
name={{ job.name }}
where=(--zone={{ settings.zone }}{% if settings.project %} --project={{ settings.project }}{% endif %})
inside=({% if internal %}--internal-ip{% endif %})
restarts={{ job.restarts }}
logs={{ job.logs }}
mkdir -p "$logs"

# What every worker does before the run: first, an earlier start that lost its connection is told to save and end.
read -r -d '' prepare <<'PREPARE'
if [ -s ~/w2sr-job.pid ] && kill -TERM "$(cat ~/w2sr-job.pid)" 2>/dev/null; then
    sleep 30
fi
rm -f ~/w2sr-job.pid
rm -rf ~/w2sr-job
mkdir -p ~/w2sr-job
tar -xzf ~/w2sr-job.tar.gz -C ~/w2sr-job
cd ~/w2sr-job
{{ install }}
PREPARE

# What every worker does then.
read -r -d '' run <<'RUN'
cd ~/w2sr-job || exit {{ lost }}
{{ program }} {{ command }} &
echo $! > ~/w2sr-job.pid
wait $!
code=$?
rm -f ~/w2sr-job.pid
case $code in
    {{ final | raw }}) exit $((code + {{ shift }})) ;;  # told apart from codes of gcloud's own
esac
exit "$code"
RUN

request() {
    gcloud compute tpus queued-resources create "$name" "${where[@]}" --node-id="$name" \
        --accelerator-type={{ kind }} --runtime-version={{ runtime }}{% if settings.capacity != "on-demand" %} --{{ settings.capacity }}{% endif %}{% if settings.service_account %} --service-account={{ settings.service_account }}{% endif %}

}

state() {
    gcloud compute tpus queued-resources describe "$name" "${where[@]}" --format='value(state.state)' 2>/dev/null
}

remove() {
    gcloud compute tpus queued-resources delete "$name" "${where[@]}" --force --quiet
}

# Until the TPU is there; fails where it is gone again.
await() {
    local now
    while now=$(state); do
        case $now in
            ACTIVE) return 0 ;;
            FAILED | SUSPENDING | SUSPENDED | DELETING) return 1 ;;
        esac
        echo "$(date +%T) $name: ${now:-no state yet}"
        sleep 30
    done
    return 1
}

everywhere() {
    gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" ${inside[@]+"${inside[@]}"} --worker={{ settings.worker }} --command="$1"
}

prepared() {
    local archive
    archive=$(mktemp -d)/w2sr-job.tar.gz
    tar -czf "$archive" --exclude-vcs --exclude=./.venv --exclude=./runs --exclude="./$logs" . &&
        gcloud compute tpus tpu-vm scp "$archive" "$name:w2sr-job.tar.gz" "${where[@]}" ${inside[@]+"${inside[@]}"} --worker={{ settings.worker }} &&
        everywhere "$prepare"
}

code={{ lost }}
for ((start = 0; start <= restarts; start++)); do
    case $(state) in
        ACTIVE | ACCEPTED | CREATING | PROVISIONING | WAITING_FOR_RESOURCES) ;;
        "") request || exit 2 ;;
        *) remove && request || exit 2 ;;
    esac
    if ! { await && prepared; }; then
        sleep 30
        continue
    fi
    everywhere "$run" 2>&1 | tee -a "$logs/$name.log"
    code=${PIPESTATUS[0]}
    if [ "$code" -gt {{ shift }} ] && [ "$code" -lt {{ shift + 50 }} ]; then
        code=$((code - {{ shift }}))
        break
    fi
    case $code in
        0 | 126 | 127) break ;;
    esac
    echo "exit code $code: started again"
done
{% if keep %}
echo "the TPU is kept: gcloud compute tpus queued-resources delete $name ${where[*]} --force"
{% else %}
remove
{% endif %}
exit "$code"
