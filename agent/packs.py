"""`vagus packs`: which models there are, whether they give here what they gave where they were made; and new ones."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from agent.config import ConfigError, default_state_dir, load_config


def packs_command(args: argparse.Namespace) -> int:
    """List or verify the packs that are used, or install one; 1 when one is not sound, 2 on usage or config."""
    if (args.action == "install") != (args.pack is not None):
        sys.stderr.write("vagus packs: give the folder or zip file of a pack to install, and only then\n")
        return 2
    try:
        state_dir = load_config(args.config).agent.state_dir if args.config else Path(default_state_dir()).expanduser()
    except ConfigError as error:
        sys.stderr.write("".join(f"{fault}\n" for fault in error.faults))
        return 2
    if args.action == "install":
        return _install(args, state_dir)
    lines = [_line(pack_id, state_dir, verified=args.action == "verify") for pack_id in _ids(state_dir)]
    for line in lines:
        _say(line, args.json)
    return 1 if any("error" in line for line in lines) else 0


def _ids(state_dir: Path) -> list[str]:
    from agent.live_models import EXPECTED, PACKS_FOLDER  # noqa: PLC0415  (numpy and scipy)
    from models.pack import available_packs  # noqa: PLC0415
    from models.store import installed  # noqa: PLC0415

    return sorted({*EXPECTED, *(path.name for path in available_packs()), *installed(state_dir / PACKS_FOLDER)})


def _line(pack_id: str, state_dir: Path, *, verified: bool) -> dict[str, object]:
    """What is used under this id, and what is wrong with it or with what was passed over for it."""
    from agent.live_models import PACKS_FOLDER  # noqa: PLC0415
    from models.pack import PackError, verify  # noqa: PLC0415
    from models.store import live  # noqa: PLC0415

    line: dict[str, object] = {"id": pack_id}
    try:
        found = live(pack_id, state_dir / PACKS_FOLDER)
        line |= {"version": found.pack.version, "origin": "installed" if found.installed else "shipped"}
        line |= {"labels": list(found.pack.labels), "sha256": found.pack.hash}
        if found.passed_over:
            line["error"] = f"the installed pack is not used: {found.passed_over}"
        if verified:
            line["largest_difference"] = round(verify(found.pack), 6)
    except PackError as error:
        line["error"] = str(error)
    return line


def _install(args: argparse.Namespace, state_dir: Path) -> int:
    from agent.live_models import PACKS_FOLDER, check_pack  # noqa: PLC0415
    from models.pack import ModelPack, PackError, verify  # noqa: PLC0415
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
