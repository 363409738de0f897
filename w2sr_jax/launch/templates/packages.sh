set -eu
python3 -m pip install --quiet --user uv
python3 -m uv venv --quiet --clear --python {{ python }} ~/w2sr-environment
{% if lock %}
python3 -m uv pip install --quiet --python ~/w2sr-environment/bin/python --require-hashes -r {{ lock }}
{% endif %}
python3 -m uv pip install --quiet --python ~/w2sr-environment/bin/python {{ wanted }}
