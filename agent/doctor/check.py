"""What a look at the machine gives: one finding, in words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One finding."""

    name: str
    ok: bool | None
    """False: the agent cannot run like this. None: good to know, or cannot be told here."""
    detail: str
    remedy: str = ""
