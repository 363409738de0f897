"""Run twice by test_processes, as the two processes of one run: `two_processes.py PORT INDEX`. Prints one line of JSON."""

import json
import sys

import jax
import numpy as np

from w2sr_jax.core import keys
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel import mesh as meshes
from w2sr_jax.parallel import processes
from w2sr_jax.parallel.settings import Mesh, Processes
from w2sr_jax.sampling.engine import generate
from w2sr_jax.sampling.settings import Decoding


def main(port: str, index: int) -> None:
    processes.initialize(Processes(f"localhost:{port}", count=2, index=index, timeout=60))
    mesh = meshes.make_mesh(Mesh(fsdp=2))
    rows = meshes.batch_sharding(mesh)
    local = np.arange(6.0, dtype=np.float32).reshape(2, 3) + np.repeat([0, 100], 2).reshape(2, 2, 1)
    whole = processes.put({"rows": local.reshape(4, 3)}, rows)["rows"]
    total = jax.jit(lambda array: array.sum(axis=0), out_shardings=meshes.replicated(mesh))(whole)

    config = ModelConfig(vocab_size=12, width=8, layers=1, heads=2, kv_heads=2, mlp=16)
    axes, shapes = transformer.logical_axes(config), transformer.shapes(config)
    params = jax.jit(transformer.init, static_argnums=0, out_shardings=meshes.shardings(mesh, axes, shapes))(
        config, jax.random.key(0)
    )
    prompts = [[1, 2, 3], [4], [5, 6], [7, 8, 9, 10], [11]]
    row_keys = keys.keys(0, "test", [(row,) for row in range(len(prompts))])
    completions = generate(config, params, prompts, row_keys, Decoding(max_tokens=4, batch=4), (3,), 0, mesh=mesh)
    result = {
        "devices": [len(jax.local_devices()), len(jax.devices())],
        "total": processes.gather(total).tolist(),
        "whole": processes.gather(whole).tolist(),
        "embedding": processes.gather(params["embedding"]).tolist(),
        "tokens": [completion.tokens for completion in completions],
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
