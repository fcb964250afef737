"""What puts a version in the place of another: a program beside the agent, which may not do that itself."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agent.fleet.order import Order

_MAX_WORDS = 500


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went."""

    done: bool
    words: str = ""


class Updater(Protocol):
    """Installs and takes back. An agent that is ended meanwhile asks again after its start: both must bear that."""

    async def apply(self, order: Order) -> Outcome:
        """Fetch, check and run what `order` says; for one to roll back, what ran before it."""
        ...


@dataclass(frozen=True, slots=True)
class UpdateProgram:
    """A program of the site's: it is given `install` or `roll_back`, reads the order as JSON, and exits with 0.

    Its last line on stderr says what went wrong.
    """

    path: Path

    async def apply(self, order: Order) -> Outcome:
        try:
            process = await asyncio.create_subprocess_exec(
                str(self.path),
                order.action,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            return Outcome(done=False, words=f"{self.path} cannot be run: {error.strerror}")
        _, said = await process.communicate(order.model_dump_json().encode())
        if process.returncode == 0:
            return Outcome(done=True)
        lines = said.decode(errors="replace").strip().splitlines()
        return Outcome(done=False, words=(lines[-1] if lines else f"it ended with {process.returncode}")[:_MAX_WORDS])
