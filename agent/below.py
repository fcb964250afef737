"""Names of files in archives that come from elsewhere."""

from __future__ import annotations


def stays_below(name: str) -> bool:
    """Whether a name, with / between its parts, leads below the folder it is taken from, and by no detour."""
    return not any(part in ("", ".", "..") for part in name.split("/"))
