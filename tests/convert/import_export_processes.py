"""Run twice by test_import_export, as the two processes of one program: `import_export_processes.py PORT INDEX THEIRS FOLDER`."""

import sys
from pathlib import Path

import jax

from w2sr_jax.convert.exporting import export
from w2sr_jax.convert.importing import import_model
from w2sr_jax.models import transformer
from w2sr_jax.models.hf import config_json
from w2sr_jax.parallel.mesh import make_mesh, shardings
from w2sr_jax.parallel.processes import initialize
from w2sr_jax.parallel.settings import Mesh, Processes
from w2sr_jax.stages.weights import load


def main(port: str, index: int, theirs: str, folder: Path) -> None:
    initialize(Processes(f"localhost:{port}", count=2, index=index, timeout=60))
    split = Mesh(data=1, fsdp=4)
    import_model(theirs, folder / "imported", "float32", split)
    export(folder / "imported", folder / "exported", shard_bytes=40_000, mesh=split)
    config = config_json.architecture(folder / "exported")
    places = shardings(make_mesh(split), transformer.logical_axes(config), transformer.shapes(config))
    restored = load(str(folder / "exported"), config, places).params
    assert not any(leaf.is_fully_addressable for leaf in jax.tree.leaves(restored) if leaf.ndim > 2)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
