"""The virtual wearables of the guest, and the controller through which its kernel hears them. A process of its own.

Each line in, a JSON list, asks for something and is answered by one line: ["call", "strap", "disconnect"] does it,
["set", "cgm", "refuses_pairing", true] and ["get", "strap", "connections"] are about an attribute; "adapter" is the
guest's own controller, which can be unplugged and plugged in. The answer is {"value": …} or {"error": "…"}.
Every wearable is out of range until it is called to `come_back`.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
import time
from contextlib import AsyncExitStack
from typing import Any

import numpy as np
from bumble import hci
from bumble.transport.common import Transport
from bumble.transport.vhci import open_vhci_transport
from guest_bluetooth import Ward

from firmware_bridge.emulator import Air, DeviceTime, GlucoseSensor, HeartRateStrap, Peripheral, PolarH10, Repeated
from firmware_bridge.emulator import peripheral as emulated
from firmware_bridge.emulator.air import VirtualController

emulated.ADVERTISING_INTERVAL_MS = 400  # the guest computes slowly

ADAPTER = "00:AA:01:00:00:42"
CGM_READINGS = 13
"""Readings that the glucose sensor has stored when it is switched on: an hour, each 5 min."""
NS_PER_S = 1_000_000_000


def wearables(air: Air) -> dict[str, Peripheral]:
    """A strap, one that has to be paired, a strap with an ECG that counts its samples in µV, a glucose sensor."""
    now_ns = time.time_ns()
    glucose = GlucoseSensor(
        air,
        Ward.addresses["cgm"],
        time=DeviceTime(now_ns),
        mg_dl=[100.0 + number for number in range(288)],
        session_start_ns=now_ns - (CGM_READINGS - 1) * 300 * NS_PER_S,
    )
    return {
        "strap": HeartRateStrap(air, Ward.addresses["strap"]),
        "guarded": HeartRateStrap(air, Ward.addresses["guarded"], emulated.About("Guarded strap"), bonds=True),
        "h10": PolarH10(air, Ward.addresses["h10"], ecg_uv=Repeated(np.arange(20_000))),
        "cgm": glucose,
    }


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
        # Of a controller with these, Linux waits for an "enhanced connection complete"; bumble's sends the plain one.
        self.controller.le_features &= ~(
            hci.LeFeatureMask.LL_PRIVACY
            | hci.LeFeatureMask.LE_EXTENDED_ADVERTISING
            | hci.LeFeatureMask.LE_PERIODIC_ADVERTISING
        )

    async def unplug(self) -> None:
        """It is gone, as a dongle that somebody took."""
        assert self._transport is not None
        assert self.controller is not None
        self.controller.answers = False
        self.controller.pull_out()
        await self._transport.close()


async def answer(things: dict[str, Any], request: list[Any]) -> Any:
    """Do what is asked; only plain values are told."""
    verb, whose, path, *values = request
    owner = things[whose]
    *way, name = path.split(".")
    for one in way:
        owner = getattr(owner, one)
    if verb == "set":
        setattr(owner, name, values[0])
        return None
    found = getattr(owner, name)
    if verb == "get":
        return found if isinstance(found, (bool, int, float, str, type(None))) else repr(found)
    result = found(*values)
    if inspect.isawaitable(result):
        await result
    return None


async def main() -> None:
    air = Air()
    async with AsyncExitStack() as stack:
        things: dict[str, Any] = {"adapter": GuestAdapter(air)}
        for name, one in wearables(air).items():
            things[name] = await stack.enter_async_context(one)
            await one.go_away()
        await things["adapter"].plug_in()
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        print('{"value": "ready"}', flush=True)
        while line := await reader.readline():
            try:
                said = {"value": await answer(things, json.loads(line))}
            except Exception as error:
                said = {"error": repr(error)}
            print(json.dumps(said), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
