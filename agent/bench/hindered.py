"""`python -m agent.bench.hindered WHAT SECONDS CONFIG`: the agent, with something that takes its time.

WHAT is "disk", and each commit of the outbox takes so long; or "chunk", and deciding on a chunk does.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable

from agent.alarms.alert import AlertEvent
from agent.cli import main
from agent.engine import Engine
from agent.uplink.outbox import Outbox
from firmware_bridge.chunk import Chunk


def hinder(what: str, seconds: float) -> None:
    """From now on, in this process."""
    sync, step = Outbox._sync, Engine.step

    written = 0

    def slow_sync(self: Outbox) -> None:
        nonlocal written
        before, written = written, self._db.total_changes
        if written != before:  # what changes nothing is not synced
            time.sleep(seconds)
            self.synced_s += seconds
        sync(self)

    def slow_step(self: Engine, chunks: Iterable[Chunk], now_ns: int | None = None) -> list[AlertEvent]:
        taken = list(chunks)
        time.sleep(seconds * len(taken))
        return step(self, taken, now_ns)

    if what == "disk":
        Outbox._sync = slow_sync  # type: ignore[method-assign]
    else:
        Engine.step = slow_step  # type: ignore[method-assign]


if __name__ == "__main__":
    hinder(sys.argv[1], float(sys.argv[2]))
    sys.exit(main(["run", sys.argv[3]]))
