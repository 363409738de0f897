"""Two real processes with two virtual devices each, over localhost, against one process."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import xla_flags

from w2sr_jax.core import keys
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.sampling.engine import generate
from w2sr_jax.sampling.settings import Decoding

ROOT = Path(__file__).resolve().parents[2]


def test_two_processes_reduce_gather_and_decode_as_one() -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    variables = {**os.environ, "XLA_FLAGS": xla_flags.devices(2), "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(Path(__file__).with_name("two_processes.py")), port]
    running = [
        subprocess.Popen([*command, index], env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for index in "01"
    ]
    try:
        outputs = [process.communicate(timeout=150) for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0], outputs
    first, second = (json.loads(out.splitlines()[-1]) for out, _ in outputs)
    assert first == second
    assert first["devices"] == [2, 4]
    rows = np.concatenate([np.arange(6).reshape(2, 3), np.arange(6).reshape(2, 3) + 100])
    np.testing.assert_array_equal(first["whole"], rows)
    np.testing.assert_array_equal(first["total"], rows.sum(axis=0))

    config = ModelConfig(vocab_size=12, width=8, layers=1, heads=2, kv_heads=2, mlp=16)
    params = transformer.init(config, jax.random.key(0))
    np.testing.assert_allclose(first["embedding"], params["embedding"], atol=1e-6)
    prompts = [[1, 2, 3], [4], [5, 6], [7, 8, 9, 10], [11]]
    row_keys = keys.keys(0, "test", [(row,) for row in range(len(prompts))])
    alone = generate(config, params, prompts, row_keys, Decoding(max_tokens=4, batch=4), (3,), 0)
    assert first["tokens"] == [completion.tokens for completion in alone]
