"""What a smaller processor can carry, by how many instructions the work takes: `vagus bench --instructions`.

valgrind counts them, which is the same on a busy machine as on an idle one. Two runs that differ only in their length
are subtracted, so starting up is not in it. What is assumed of a Raspberry Pi 4 (Cortex-A72) is written beside it: it
is an estimate, and no Pi has been measured.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from agent.bench.engine_cost import engine_cost
from agent.bench.figures import finish, head, machine, row

PATIENTS = 100
SECONDS = (2, 5)
PI4_HZ = 1.5e9
PI4_PER_CYCLE = 1.0
"""Instructions a cycle: of interpreted Python and small kernels, on a core that fetches three, rather low than high."""
NETWORKS = "onnxruntime"
NETWORKS_TIMES = 4.0
"""Its kernels multiply 32 8-bit numbers in one AVX2 instruction where a core of Armv8.0 multiplies 8."""
GOAL = 250
_OBJECT = re.compile(r"^(c?)ob=\((\d+)\)(?: (.*))?$")
_COST = re.compile(r"^(?:\+|-|\*)?\d*\s+(\d+)$")


def instructions_command(args: argparse.Namespace) -> int:
    """Counts, prints by library, and estimates; 2 without valgrind, 1 short of the goal."""
    if shutil.which("valgrind") is None:
        sys.stderr.write("vagus bench: valgrind is not installed (sudo apt-get install valgrind)\n")
        return 2
    short, long = (count(PATIENTS, seconds) for seconds in SECONDS)
    seconds = PATIENTS * (SECONDS[1] - SECONDS[0])
    each = {name: (long[name] - short[name]) / seconds for name in long if long[name] > short[name]}
    sys.stdout.write(f"instructions a patient-second with {PATIENTS} patients, on {machine()}, no wider than 128 bit\n")
    head(("library", "thousand instructions"))
    for name, n in sorted(each.items(), key=lambda item: -item[1])[:8]:
        row((name, f"{n / 1e3:.0f}"))
    networks = sum(n for name, n in each.items() if NETWORKS in name)
    total = sum(each.values())
    on_a_pi = total + (NETWORKS_TIMES - 1) * networks
    streams = PI4_HZ * PI4_PER_CYCLE / on_a_pi
    sys.stdout.write(
        f"all: {total / 1e6:.2f} million. A Pi 4's core at {PI4_HZ / 1e9:.1f} GHz, with {PI4_PER_CYCLE:.1f} "
        f"instruction a cycle and {NETWORKS_TIMES:.0f} times as many for the networks: about {streams:.0f} streams; "
        f"goal {GOAL}: {'kept' if streams >= GOAL else 'MISSED'}\n"
    )
    figures = {"instructions": total, "of_networks": networks, "streams_on_a_pi4_core": streams}
    finish("instructions", figures, args)
    return 0 if streams >= GOAL else 1


def count(patients: int, seconds: int) -> Counter[str]:
    """Instructions by library of a whole run over so many patients and seconds."""
    with tempfile.TemporaryDirectory(prefix="vagus-bench-") as folder:
        out = Path(folder) / "callgrind"
        program = [sys.executable, "-m", __spec__.name, str(patients), str(seconds)]
        subprocess.run(
            ["valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={out}", *program],
            check=True,
            env=os.environ | _narrow(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return by_library(out.read_text())


def by_library(profile: str) -> Counter[str]:
    """Instructions in each library's own code, of a callgrind file."""
    names: dict[str, str] = {}
    spent: Counter[str] = Counter()
    library, of_a_call = "", False
    for line in profile.splitlines():
        if found := _OBJECT.match(line):
            callee, number, path = found.groups()
            if path:
                names[number] = Path(path).name
            if not callee:
                library = names[number]
        elif line.startswith("calls="):
            of_a_call = True  # the next line is the callee's cost, which is counted where it was spent
        elif cost := _COST.match(line):
            if not of_a_call:
                spent[library] += int(cost[1])
            of_a_call = False
    return spent


def _narrow() -> dict[str, str]:
    """The environment in which numpy uses vectors of 128 bit, as Arm has them: nothing beyond its baseline."""
    found = getattr(np, "_core", None)
    wider = " ".join(getattr(getattr(found, "_multiarray_umath", None), "__cpu_dispatch__", ()))
    return {"NPY_DISABLE_CPU_FEATURES": wider, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


if __name__ == "__main__":
    engine_cost(int(sys.argv[1]), seconds=int(sys.argv[2]))
