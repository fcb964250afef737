"""`vagus packs`: which models ship, and whether they give here what they gave where they were made."""

from __future__ import annotations

import argparse
import json
import sys


def packs_command(args: argparse.Namespace) -> int:
    """List or verify every shipped pack; 1 when one is not sound."""
    from models.pack import PackError, available_packs, load, verify  # noqa: PLC0415

    sound = True
    for path in available_packs():
        line: dict[str, object] = {"id": path.name}
        try:
            pack = load(path)
            line |= {"version": pack.version, "labels": list(pack.labels), "sha256": pack.hash}
            if args.action == "verify":
                line["largest_difference"] = round(verify(pack), 6)
        except PackError as error:
            sound = False
            line["error"] = str(error)
        if args.json:
            sys.stdout.write(json.dumps(line) + "\n")
        else:
            sys.stdout.write("  ".join(f"{key} {value}" for key, value in line.items()) + "\n")
    return 0 if sound else 1
