"""`vagus bench`: what this machine can carry, in CPU time, latency and memory. No test times anything; this does.

A part is measured alone with `--NAME`, where NAME is a key of PARTS; without, the budget of the design as a whole.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from importlib import import_module

WHOLE = "agent.bench.whole:whole_command"


@dataclass(frozen=True, slots=True)
class Part:
    """What can be measured alone."""

    words: str
    """What it measures, to follow "only"."""
    place: str
    """"module:function", the function taking the parsed arguments and returning the exit status."""
    metavar: str = ""
    """Of the arguments it needs, one or more; "" where it needs none."""


PARTS = {
    "clock": Part("how near to the truth a device's clock is brought", "agent.bench.device_clock:clock_command"),
    "ble": Part("what five wearables at once cost over Bluetooth", "agent.bench.wearables:ble_command"),
    "idle": Part("what one patient costs while little happens", "agent.bench.idle:idle_command"),
    "memory": Part("what each further patient takes of memory", "agent.bench.memory:memory_command"),
    "floor": Part(
        "the arithmetic of networks and filters in a second of one patient, and how fast it is done",
        "agent.bench.floor:floor_command",
    ),
    "instructions": Part(
        "what a Pi 4's core can carry, estimated from counted instructions (needs valgrind, takes minutes)",
        "agent.bench.instructions:instructions_command",
    ),
    "overload": Part(
        "what becomes of the others' alarms when one floods, a disk is slow, or there is too much for all",
        "agent.bench.overload:overload_command",
    ),
    "against": Part(
        "how other programs find the beats of WFDB records, in CPU time and right ones",
        "agent.bench.against:against_command",
        metavar="RECORD",
    ),
}


def add_parts(only: argparse._MutuallyExclusiveGroup) -> None:
    """An option for each part; what it was given is in `args`, under its name."""
    for name, part in PARTS.items():
        if part.metavar:
            only.add_argument(f"--{name}", nargs="+", metavar=part.metavar, help=f"only {part.words}")
        else:
            only.add_argument(f"--{name}", action="store_true", help=f"only {part.words}")


def bench_command(args: argparse.Namespace) -> int:
    """Measure what was asked for."""
    place = next((part.place for name, part in PARTS.items() if getattr(args, name)), WHOLE)
    module, _, function = place.partition(":")
    return int(getattr(import_module(module), function)(args))
