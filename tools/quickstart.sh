#!/usr/bin/env bash
# The whole of it with one command: an environment in .venv, then the quickstart experiment. Arguments are passed on to `w2sr run`.
#   bash tools/quickstart.sh [--name mine] [--rungs.0.training.learning-rate 3e-4]
set -euo pipefail
bash "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# Huge pages for large buffers: about a tenth faster on Linux, ignored elsewhere.
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}
exec .venv/bin/w2sr run configs/quickstart.py "$@"
