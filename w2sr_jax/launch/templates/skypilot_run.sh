set -u
{% if meets %}
first=$(echo "$SKYPILOT_NODE_IPS" | head -n 1)
meeting=(--coordinator "$first:{{ port }}" --processes {{ job.hosts.nodes }} --process "$SKYPILOT_NODE_RANK")
if [ "$SKYPILOT_NUM_NODES" -ne {{ job.hosts.nodes }} ]; then
    echo "this task was written for {{ job.hosts.nodes }} hosts and has $SKYPILOT_NUM_NODES" >&2
    exit 2
fi
{% else %}
meeting=()
{% endif %}
{{ packages.program | raw }} {{ command }} ${meeting[@]+"${meeting[@]}"}
code=$?
# Killed, for want of memory say, is lost; SkyPilot keeps 137 for hosts that it ends itself.
[ "$code" -eq 137 ] && code={{ lost }}
exit "$code"
