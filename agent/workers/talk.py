"""What parent and worker say to each other: an object of JSON a line, over a pair of sockets.

The parent says once what is to be done. The worker says what stands, its part of the status, and that it is alive. The
end of the stream is the end of the other process, however it came.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.uplink.messages import StatusMessage
from agent.workers.shares import Layout

LONGEST_LINE = 64 << 20
UNREAD_AT_MOST = 16 << 20
"""A parent that does not read is told no more; the watching goes on."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What a worker is to do. It is told the config's text: the file may be another one by the next restart."""

    text: str
    path: Path
    layout: Layout
    worker: int
    leaving: bool = False
    """Only to take in what the broker has kept for it, and to stop."""

    def line(self) -> bytes:
        layout = self.layout.as_json()
        return _line(
            {
                "text": self.text,
                "path": str(self.path),
                "layout": layout,
                "worker": self.worker,
                "leaving": self.leaving,
            }
        )

    @classmethod
    def of_line(cls, line: bytes) -> Orders:
        said = json.loads(line)
        layout = Layout.from_json(said["layout"])
        return cls(said["text"], Path(said["path"]), layout, said["worker"], said["leaving"])


class ToldParent:
    """A worker's way to its parent: `agent.workers.tell.ToParent`."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def stand(self, alarms: Mapping[str, str]) -> None:
        self._say({"stand": dict(alarms)})

    def tell(self, status: StatusMessage) -> None:
        self._say({"status": status.model_dump(mode="json")})

    def alive(self, numbers: Mapping[str, float]) -> None:
        """It goes on; `numbers` by name, for whoever watches the agent."""
        self._say({"alive": dict(numbers)})

    def _say(self, said: dict[str, Any]) -> None:
        if not self._writer.is_closing() and self._writer.transport.get_write_buffer_size() < UNREAD_AT_MOST:
            self._writer.write(_line(said))


async def streams_of(sock: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(sock=sock, limit=LONGEST_LINE)


def _line(said: Mapping[str, Any]) -> bytes:
    return json.dumps(said).encode() + b"\n"
