#!/usr/bin/env bash
# Create .venv with the locked packages and w2sr_jax itself; quick where they are there already.
#   bash tools/environment.sh          all packages
#   bash tools/environment.sh test     and statsmodels, torch, peft and TRL, which only tests and benchmarks compare with
#                                      (W2SR_TORCH=0: without the last three)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "w2sr_jax needs Python 3.11 or newer; $("$python" --version) is $python. Set PYTHON to a newer one." >&2
    exit 2
}
lock=requirements.lock stamp=.venv/.installed.lock
if ! cmp -s "$lock" "$stamp" 2>/dev/null; then
    echo "creating .venv from $lock …"
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check uv
    .venv/bin/uv pip install --quiet --python .venv/bin/python --require-hashes -r "$lock"
    .venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps -e .
    cp "$lock" "$stamp"
fi
if [ "${1:-}" = test ] && ! compgen -G '.venv/lib/python*/site-packages/statsmodels' >/dev/null; then
    echo "installing statsmodels, which the tests compare with …"
    # all else that it needs is locked
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps statsmodels==0.15.0 patsy==1.0.3 ||
        echo "statsmodels could not be installed; the tests that compare with it will be skipped" >&2
fi
if [ "${1:-}" = test ] && [ "${W2SR_TORCH:-1}" = 1 ] && ! .venv/bin/python -c 'import peft, torch, trl' 2>/dev/null; then
    echo "installing torch, peft and TRL, which the tests compare with …"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 peft==0.21.2 trl==1.16.0 ||
        echo "torch, peft or TRL could not be installed; the tests that compare with them will be skipped" >&2
fi
