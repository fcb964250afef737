"""How near to the truth a device's clock is brought: a night of frames with drift, wander and a radio that dawdles.

A frame of 73 samples at 130 Hz, as a chest strap sends; a crystal 40 ppm fast that wanders by ±5 ppm as the room warms
and cools; each frame waits up to 45 ms for its turn on the radio, and one in fifty has to be sent again, some of them
more than once. The clock starts in 2019, and the truth is when the frame's last sample was taken.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np

from agent.bench.figures import finish, head, row
from firmware_bridge.clock import DeviceClock, SteadyUtc

HOURS = 6
NIGHTS = 5
FRAME_S = 73 / 130
DRIFT_PPM, WANDER_PPM, WANDER_PERIOD_S = 40.0, 5.0, 7200.0
JITTER_S = 0.045
AGAIN = 0.02
BEGAN_NS = 1_790_000_000 * 10**9
DEVICE_EPOCH_NS = 1_546_300_800 * 10**9
"""2019-01-01, where a chest strap's clock stands after it was off."""


def clock_command(args: argparse.Namespace) -> int:
    """Only the clock, which is the same on every machine: print its errors, and write JSON where asked."""
    nights = {seed: clock_errors(seed) for seed in range(NIGHTS)}
    sys.stdout.write(f"error of a frame's time over {HOURS} h, ms\n")
    head(("night", "dated by", "p50", "p95", "max"))
    for seed, errors in nights.items():
        for way, spread in errors.items():
            row((seed, way, *(f"{spread[key]:.2f}" for key in ("p50", "p95", "max"))))
    finish("clock", {"clock_error_ms": nights}, args)
    return 0


def clock_errors(seed: int) -> dict[str, Any]:
    """Errors in ms, p50, p95 and max over the night, of three ways to date a frame.

    "arrival": when it came; "first frame": by the device's clock, set by the first frame; "estimate": DeviceClock.
    """
    rng = np.random.default_rng(seed)
    true_s = FRAME_S * np.arange(1, round(HOURS * 3600 / FRAME_S))
    wander_s = WANDER_PPM * 1e-6 * WANDER_PERIOD_S / (2 * np.pi) * (1 - np.cos(2 * np.pi * true_s / WANDER_PERIOD_S))
    device_s = true_s * (1 + DRIFT_PPM * 1e-6) + wander_s
    delay_s = JITTER_S * (rng.uniform(size=true_s.size) + rng.geometric(1 - AGAIN, true_s.size) - 1)
    came_s = np.maximum.accumulate(true_s + delay_s)
    steady, clock = SteadyUtc(), DeviceClock()
    estimate_ns = []
    for device_ns, came_ns in zip(_ns(device_s), _ns(came_s), strict=True):
        arrival = steady.arrival(came_ns, BEGAN_NS + came_ns)
        estimate_ns.append(clock.push(DEVICE_EPOCH_NS + device_ns, arrival) - BEGAN_NS)
    return {
        "arrival": _spread(came_s - true_s),
        "first frame": _spread(device_s - device_s[0] + came_s[0] - true_s),
        "estimate": _spread(np.array(estimate_ns) / 1e9 - true_s),
    }


def _ns(seconds: np.ndarray[Any, np.dtype[np.float64]]) -> list[int]:
    return [round(1e9 * one) for one in seconds.tolist()]


def _spread(error_s: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, float]:
    ms = 1e3 * np.abs(error_s)
    return {"p50": float(np.median(ms)), "p95": float(np.quantile(ms, 0.95)), "max": float(ms.max())}
