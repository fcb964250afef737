"""The virtual wearables of the guest, and the controller through which its kernel hears them. A process of its own.

Each line in, a JSON list, asks for something and is answered by one line: ["call", "h10", "disconnect"] does it,
["set", "h10", "refuses_pairing", true] and ["get", "h10", "connections"] are about an attribute; "adapter" is the
guest's own controller, which can be unplugged and plugged in. The answer is {"value": …} or {"error": "…"}.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from contextlib import AsyncExitStack
from typing import Any

from bumble.transport.common import Transport
from bumble.transport.vhci import open_vhci_transport

from firmware_bridge.emulator import Air, HeartRateStrap, peripheral
from firmware_bridge.emulator.air import VirtualController

peripheral.ADVERTISING_INTERVAL_MS = 400  # the guest computes slowly

STRAP = "C4:00:00:00:00:01"
BONDED = "C4:00:00:00:00:02"
ADAPTER = "00:AA:01:00:00:42"


class GuestAdapter:
    """The kernel's controller, over /dev/vhci."""

    def __init__(self, air: Air) -> None:
        self._air = air
        self._transport: Transport | None = None
        self.controller: VirtualController | None = None

    async def plug_in(self) -> None:
        """It appears, as hci0."""
        self._transport = await open_vhci_transport(None)
        self.controller = VirtualController(
            "guest",
            host_source=self._transport.source,
            host_sink=self._transport.sink,
            link=self._air,
            public_address=ADAPTER,
        )

    async def unplug(self) -> None:
        """It is gone, as a dongle that somebody took."""
        assert self._transport is not None
        assert self.controller is not None
        self.controller.answers = False
        self.controller.pull_out()
        await self._transport.close()

    def hang(self) -> None:
        """It answers no more."""
        assert self.controller is not None
        self.controller.answers = False


def attribute(root: object, path: str) -> tuple[Any, str]:
    """Whose attribute it is, and its last name."""
    *way, name = path.split(".")
    for one in way:
        root = getattr(root, one)
    return root, name


async def answer(things: dict[str, Any], request: list[Any]) -> Any:
    verb, whose, path, *values = request
    owner, name = attribute(things[whose], path)
    if verb == "set":
        return setattr(owner, name, values[0])
    found = getattr(owner, name)
    if verb == "get":
        return found
    result = found(*values)
    return await result if inspect.isawaitable(result) else result


async def main() -> None:
    air = Air()
    async with AsyncExitStack() as stack:
        things: dict[str, Any] = {
            "strap": await stack.enter_async_context(HeartRateStrap(air, STRAP)),
            "bonded": await stack.enter_async_context(
                HeartRateStrap(air, BONDED, peripheral.About("Bonded strap"), bonds=True)
            ),
            "adapter": GuestAdapter(air),
        }
        await things["adapter"].plug_in()
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        print('{"value": "ready"}', flush=True)
        while line := await reader.readline():
            try:
                said = {"value": await answer(things, json.loads(line))}
            except Exception as error:
                said = {"error": repr(error)}
            print(json.dumps(said, default=str), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
