#!/usr/bin/env bash
# Renew the lock file from pyproject.toml: versions and hashes for every platform and Python from 3.11 on, no addresses.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url \
    --no-emit-find-links --custom-compile-command "bash tools/lock.sh" pyproject.toml --extra test -o requirements.lock
