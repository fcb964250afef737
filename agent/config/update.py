"""[update]: whose roll-outs the agent takes part in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from agent.config.reader import TableReader
from agent.config.schema import FileName, Slug, Table


class UpdateTable(Table):
    """Takes new versions from the roll-outs of a ring: docs/fleet.md. Without this table the agent takes none."""

    ring: Slug = Field(title="Ring", description='Such as "canary" or "ward". Everybody is in the ring "all" as well.')
    key_files: Annotated[list[FileName], Field(min_length=1, max_length=8)] = Field(
        title="Keys", description="PEM files with the public keys (Ed25519) whose orders count."
    )
    program: FileName = Field(
        title="What installs",
        description="Program that is given `install` or `roll_back`, reads the order as JSON and ends with 0 if "
        "that worked.",
    )
    jitter_s: float = Field(
        60.0, ge=0, le=86_400, title="Spread", description="An order is begun at some moment within so many seconds."
    )


@dataclass(frozen=True, slots=True)
class UpdateConfig:
    """[update]"""

    ring: str
    key_files: tuple[Path, ...]
    program: Path
    jitter_s: float = 60.0


def read_update(read: TableReader, raw: object) -> UpdateConfig | None:
    """What [update] says; None, with the faults noted, where it cannot be."""
    from agent.fleet.order import KeyFileError, read_public_key  # noqa: PLC0415 (only where somebody updates)

    noted = len(read.faults)
    table = read.table(UpdateTable, raw, ("update",))
    if table is None:
        return None
    program = read.path(table.program, ("update", "program"))
    files = [read.readable(written, ("update", "key_files")) for written in table.key_files]
    for file in files:
        try:
            if file is not None:
                read_public_key(file)
        except (KeyFileError, OSError) as error:
            read.fault(("update", "key_files"), f"{file} {error}")
        except ImportError:
            read.fault(("update",), "needs the package cryptography", "pip install 'vagus[update]'")
    if program is None or len(read.faults) > noted:
        return None
    return UpdateConfig(table.ring, tuple(file for file in files if file is not None), program, table.jitter_s)
