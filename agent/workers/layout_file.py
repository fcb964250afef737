"""How the patients are shared out on this disk, in a small file of the state folder: it outlasts a changed config."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from agent.workers.places import state_folders
from agent.workers.shares import Layout

log = logging.getLogger(__name__)

FILE_NAME = "workers.json"


@dataclass(frozen=True, slots=True)
class KeptLayout:
    """As the state lies, and while it is moved, as it is to lie."""

    layout: Layout
    moving_to: Layout | None = None


def kept_layout(state_dir: Path) -> KeptLayout | None:
    """What the file says: one process where there is none; None where it cannot be read."""
    path = state_dir / FILE_NAME
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        moving_to = kept["moving_to"]
        return KeptLayout(Layout.from_json(kept["layout"]), moving_to and Layout.from_json(moving_to))
    except FileNotFoundError:
        return KeptLayout(Layout()) if state_folders(state_dir) == [state_dir] else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.critical("%s cannot be read: state is looked for in every folder: %s", path, error)
        return None


def keep_layout(state_dir: Path, kept: KeptLayout) -> None:
    """On return it is on disk; raises OSError."""
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = state_dir / FILE_NAME
    moving_to = kept.moving_to and kept.moving_to.as_json()
    beside = path.with_suffix(".new")
    with beside.open("w", encoding="utf-8") as file:
        json.dump({"layout": kept.layout.as_json(), "moving_to": moving_to}, file)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    folder = os.open(state_dir, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
