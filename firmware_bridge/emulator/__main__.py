"""Wear what you do not have: `python -m firmware_bridge.emulator polar-h10 cgm` lets the agent find them.

It lends a Bluetooth controller, made of software, at a TCP port of this machine; the agent takes it with
VAGUS_BLUETOOTH=bumble:tcp-client:127.0.0.1:PORT. What is typed goes wrong: "polar-h10 away", "cgm battery 12".
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import stat
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from firmware_bridge.emulator import (
    Air,
    DeviceTime,
    GlucoseSensor,
    HeartRateStrap,
    OwnFirmware,
    Oximeter,
    Peripheral,
    PolarH10,
    Repeated,
    Sensor,
    Thermometer,
    at_rate,
)
from firmware_bridge.emulator.commands import obey
from firmware_bridge.emulator.device_time import NS_PER_S

PORT = 9000
DAYS_NS = 24 * 3600 * NS_PER_S
ECG_HZ = 130
_WAVES = ((-0.20, 0.025, 120), (-0.04, 0.010, -100), (0.0, 0.010, 1100), (0.04, 0.012, -220), (0.26, 0.050, 280))
"""P, Q, R, S and T: s from the R peak, width in s, µV."""


def beats_uv(rate_hz: float) -> npt.NDArray[np.float64]:
    """One second-and-a-bit of a heart at rest, in µV: to be repeated."""
    at_s = np.arange(round(rate_hz * 60 / 72)) / rate_hz - 0.35
    return np.asarray(sum(uv * np.exp(-(((at_s - peak_s) / width_s) ** 2) / 2) for peak_s, width_s, uv in _WAVES))


def _cgm(air: Air, address: str) -> GlucoseSensor:
    now_ns = time.time_ns()
    day = 120 + 40 * np.sin(np.arange(288) / 288 * 6 * np.pi)
    mg_dl = [float(value) for value in np.tile(day, 10)]
    return GlucoseSensor(air, address, time=DeviceTime(now_ns), mg_dl=mg_dl, session_start_ns=now_ns - DAYS_NS)


def _board(air: Air, address: str) -> OwnFirmware:
    return OwnFirmware(air, address, [Sensor(at_rate(1, "ecg", "uV", 250), Repeated(beats_uv(250)))])


def _h10(air: Air, address: str) -> PolarH10:
    return PolarH10(air, address, ecg_uv=Repeated(beats_uv(ECG_HZ)))


KINDS: dict[str, Callable[[Air, str], Peripheral]] = {
    "polar-h10": _h10,
    "heart-rate-strap": HeartRateStrap,
    "cgm": _cgm,
    "pulse-oximeter": Oximeter,
    "thermometer": Thermometer,
    "vagus-firmware": _board,
}


async def wear(kinds: list[str], ecg: Path | None, port: int) -> None:
    """Switch them on, until interrupted. Raises OSError or ValueError where the port or the file cannot be had."""
    air = Air()
    worn: dict[str, Peripheral] = {}
    async with contextlib.AsyncExitStack() as stack:
        for place, kind in enumerate(dict.fromkeys(kinds)):
            address = f"C6:6C:75:63:6F:{place:02X}"
            if kind == "polar-h10" and ecg is not None:
                device: Peripheral = PolarH10(air, address, ecg_uv=Repeated(np.loadtxt(ecg)))
            else:
                device = KINDS[kind](air, address)
            worn[kind] = await stack.enter_async_context(device)
            sys.stdout.write(f'{device.about.name}: profile = "{kind}", address = "{address}"\n')
        chosen = await stack.enter_async_context(air.serve(port=port))
        sys.stdout.write(f"\nexport VAGUS_BLUETOOTH=bumble:tcp-client:127.0.0.1:{chosen}\nvagus scan\n")
        sys.stdout.flush()
        await _listen(worn)
        await asyncio.Event().wait()


async def _listen(worn: Mapping[str, Peripheral]) -> None:
    """Do what is typed, until nobody types any more."""
    kind_of_file = os.fstat(sys.stdin.fileno()).st_mode
    if not (sys.stdin.isatty() or stat.S_ISFIFO(kind_of_file) or stat.S_ISSOCK(kind_of_file)):
        return  # a file, or /dev/null: nobody types
    typed = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(typed), sys.stdin)
    while line := (await typed.readline()).decode(errors="replace"):
        kind, _, command = line.strip().partition(" ")
        try:
            words = await obey(worn[kind], command)
        except KeyError:
            words = f"one of {', '.join(worn)}, and what is to become of it"
        except ValueError as error:
            words = str(error)
        sys.stdout.write(f"{kind}: {words}\n")
        sys.stdout.flush()


def main() -> int:
    """0 when it was interrupted, 1 when it could not begin."""
    parser = argparse.ArgumentParser(prog="python -m firmware_bridge.emulator", description=__doc__)
    parser.add_argument("kinds", nargs="+", choices=list(KINDS), metavar="KIND", help=", ".join(KINDS) + "; each once")
    parser.add_argument(
        "--ecg", type=Path, metavar="FILE", help=f"what a polar-h10 plays: µV at {ECG_HZ} Hz, one a line"
    )
    parser.add_argument("--port", type=int, default=PORT)
    args = parser.parse_args()
    try:
        asyncio.run(wear(args.kinds, args.ecg, args.port))
    except KeyboardInterrupt:
        return 0
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
