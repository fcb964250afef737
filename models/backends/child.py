"""Try a runtime where it may die: `python -m models.backends.child`, started by models.backends.probe and nobody else.

Opens the network, runs the golden inputs, and writes the logits to a file. What comes of them is judged by the parent.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import cast

import numpy as np

from models.backends import Runtime, open_runtime
from models.manifest import WeightsName
from models.pack import golden, load


def main(arguments: list[str]) -> int:
    """FOLDER SHA256 NAME MODULE WEIGHTS RESULT [CACHE]; 0 when the logits are in RESULT."""
    folder, sha256, name, module, weights, result, *cache = arguments
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a runtime that crashes must not fill the disk as well
    pack = load(Path(folder))
    runtime = Runtime(name, module, cast("WeightsName", weights))
    if pack.manifest.weights[runtime.weights].sha256 != sha256:
        sys.stderr.write("the pack was changed since it was loaded\n")
        return 1
    backend = open_runtime(pack, runtime, Path(cache[0]) if cache else None)
    inputs, _ = golden(pack)
    together = backend.run(inputs)
    alone = backend.run({put: array[:1] for put, array in inputs.items()})
    with Path(result).open("wb") as file:
        np.savez(file, together=together, alone=alone)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
