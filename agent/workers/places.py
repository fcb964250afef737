"""Where an agent keeps its state: in one folder, or in one for each worker below it. Read by whatever reads state."""

from __future__ import annotations

import re
from pathlib import Path

_NAME = re.compile(r"worker-(\d+)")


def worker_folder(state_dir: Path, worker: int) -> Path:
    """The folder of one of several workers; it need not be there."""
    return state_dir / f"worker-{worker}"


def state_folders(state_dir: Path) -> list[Path]:
    """Every folder that may hold something of an agent: its own first, then those of workers that there are or were."""
    found = [(int(match[1]), path) for path in _children(state_dir) if (match := _NAME.fullmatch(path.name))]
    return [state_dir, *(path for _, path in sorted(found) if path.is_dir())]


def _children(state_dir: Path) -> list[Path]:
    try:
        return list(state_dir.iterdir())
    except OSError:
        return []
