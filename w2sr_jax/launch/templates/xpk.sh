#!/usr/bin/env bash
# xpk starts all hosts of a slice, and starts them again after exit codes {{ lost }} and 127 to 255. What they print: the link that it shows.
exec xpk workload create \
    --workload={{ job.name }} \
    --cluster={{ settings.cluster }} \
{% if settings.zone %}
    --zone={{ settings.zone }} \
{% endif %}
{% if settings.project %}
    --project={{ settings.project }} \
{% endif %}
{% if settings.capacity %}
    --{{ settings.capacity }} \
{% endif %}
{% if settings.storage %}
    --storage={{ settings.storage }} \
{% endif %}
    --tpu-type={{ kind }} \
    --num-slices={{ job.hosts.slices }} \
    --priority={{ settings.priority }} \
    --max-restarts={{ job.restarts }} \
    --restart-on-exit-codes={{ lost }} \
    --termination-grace-period-seconds={{ grace }} \
    --docker-name=w2sr \
    --docker-image={{ job.environment.image }} \
    --command={{ line }} "$@"
