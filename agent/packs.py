"""`vagus packs`: which models there are, whether they give here what they gave where they were made; and new ones."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config import ConfigError, default_state_dir, load_config

if TYPE_CHECKING:
    from models.pack import ModelPack

_REPEATS = 50


def packs_command(args: argparse.Namespace) -> int:
    """List or verify the packs that are used, or install one; 1 when one is not sound, 2 on usage or config."""
    if (args.action == "install") != (args.pack is not None):
        sys.stderr.write("vagus packs: give the folder or zip file of a pack to install, and only then\n")
        return 2
    try:
        if args.runtime is not None and args.runtime not in _runtimes():
            sys.stderr.write(
                f"vagus packs: no runtime is called {args.runtime} (there are: {', '.join(_runtimes())})\n"
            )
            return 2
        state_dir = load_config(args.config).agent.state_dir if args.config else Path(default_state_dir()).expanduser()
    except ConfigError as error:
        sys.stderr.write("".join(f"{fault}\n" for fault in error.faults))
        return 2
    if args.action == "install":
        return _install(args, state_dir)
    verified = (args.runtime or "cpu") if args.action == "verify" else None
    lines = [_line(pack_id, state_dir, verified) for pack_id in _ids(state_dir)]
    for line in lines:
        _say(line, args.json)
    return 1 if any("error" in line for line in lines) else 0


def _runtimes() -> tuple[str, ...]:
    from models.backends import RUNTIMES  # noqa: PLC0415

    return tuple(RUNTIMES)


def _ids(state_dir: Path) -> list[str]:
    from agent.live_models import EXPECTED, PACKS_FOLDER  # noqa: PLC0415  (numpy and scipy)
    from models.pack import available_packs  # noqa: PLC0415
    from models.store import installed  # noqa: PLC0415

    return sorted({*EXPECTED, *(path.name for path in available_packs()), *installed(state_dir / PACKS_FOLDER)})


def _line(pack_id: str, state_dir: Path, runtime: str | None) -> dict[str, object]:
    """What is used under this id, what is wrong with it or with what was passed over, and how it does on `runtime`."""
    from agent.live_models import PACKS_FOLDER  # noqa: PLC0415
    from models.pack import PackError  # noqa: PLC0415
    from models.store import live  # noqa: PLC0415

    line: dict[str, object] = {"id": pack_id}
    try:
        found = live(pack_id, state_dir / PACKS_FOLDER)
        line |= {"version": found.pack.version, "origin": "installed" if found.installed else "shipped"}
        line |= {"labels": list(found.pack.labels), "sha256": found.pack.hash}
        if found.passed_over:
            line["error"] = f"the installed pack is not used: {found.passed_over}"
        if runtime is not None:
            line |= _verified(found.pack, runtime)
    except PackError as error:
        line["error"] = str(error)
    return line


def _verified(pack: ModelPack, runtime: str) -> dict[str, object]:
    """The pack on the runtime that was asked for, tried as a start of the agent tries it, but for its quarantine."""
    import numpy as np  # noqa: PLC0415

    from models.backends import RUNTIMES  # noqa: PLC0415
    from models.backends.probe import choose  # noqa: PLC0415
    from models.pack import expected, golden  # noqa: PLC0415

    (choice,) = choose([pack], runtime, None, 0)
    backend = choice.backend
    if backend is None or backend.name != runtime:
        return {"error": "; ".join(map(str, choice.refused))}
    inputs, _ = golden(pack)
    logits = backend.run(inputs)
    wanted = expected(pack, RUNTIMES[runtime].weights)
    rows = [{name: array[i : i + 1] for name, array in inputs.items()} for i in range(len(logits))]
    alone = np.concatenate([backend.run(row) for row in rows])
    many = {name: np.resize(array, (256, *array.shape[1:])) for name, array in inputs.items()}
    return {
        "runtime": backend.name,
        "largest_difference": round(float(np.abs(pack.probabilities(logits) - pack.probabilities(wanted)).max()), 6),
        "same_bits_in_any_batch": alone.tobytes() == logits.tobytes(),
        "us_alone": _median_us(lambda: backend.run(rows[0])),
        "us_a_row_of_256": round(_median_us(lambda: backend.run(many)) / 256, 2),
    }


def _median_us(call: Callable[[], object]) -> float:
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return round(sorted(times)[_REPEATS // 2] * 1e6, 1)


def _install(args: argparse.Namespace, state_dir: Path) -> int:
    from agent.live_models import PACKS_FOLDER, check_pack  # noqa: PLC0415
    from models.pack import PackError, verify  # noqa: PLC0415
    from models.store import install, live  # noqa: PLC0415

    def check(pack: ModelPack) -> None:
        check_pack(pack)
        verify(pack)

    folder = state_dir / PACKS_FOLDER
    try:
        pack = install(args.pack, folder, check)
    except PackError as error:
        _say({"error": str(error), "installed": False}, args.json)
        return 1
    line: dict[str, object] = {"id": pack.id, "version": pack.version, "sha256": pack.hash, "installed": True}
    if not args.json:
        line["note"] = "the agent uses it from its next start on"
    _say(line, args.json)
    return 0 if live(pack.id, folder).installed else 1


def _say(line: dict[str, object], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(line) + "\n")
    elif "installed" in line and "error" in line:
        sys.stdout.write(f"refused, what was live stays so: {line['error']}\n")
    else:
        sys.stdout.write("  ".join(f"{key} {value}" for key, value in line.items()) + "\n")
