#!/usr/bin/env bash
# All tests, in an environment of their own making. Arguments are passed on to pytest.
#   bash tools/test.sh [-k losses]
set -euo pipefail
bash "$(dirname "${BASH_SOURCE[0]}")/environment.sh" test
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# Tests start many processes; without byte code each of them would compile all packages again.
unset PYTHONDONTWRITEBYTECODE
exec .venv/bin/python -m pytest "$@"
