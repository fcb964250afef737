"""`vagus bench`: what this machine can carry, in CPU time, latency and memory. No test times anything; this does."""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import sys
from pathlib import Path
from typing import Any

from agent import __version__
from agent.bench.device_clock import HOURS, clock_errors
from agent.bench.engine_cost import engine_cost, reading_cost
from agent.bench.live import live_figures

BUDGET = {
    "streams_per_core": 2000.0,
    "latency_p99_ms_1": 50.0,
    "latency_p99_ms_1000": 300.0,
    "memory_mb": 150.0,
    "kb_per_patient": 100.0,
    "start_s": 2.0,
    "ble_cpu_percent": 5.0,
}
BLE_S = 60.0

CLOCK_NIGHTS = 5


def bench_command(args: argparse.Namespace) -> int:
    """Run everything, print the tables, and write JSON where asked."""
    counts = (1, 10, 100) if args.quick else (1, 10, 100, 1000)
    live_counts = (1, 20) if args.quick else (1, 100, 1000)
    report: dict[str, Any] = {"vagus": __version__, "machine": machine(), "engine": {}, "live": {}}
    sys.stdout.write(f"vagus {__version__} on {report['machine']}\n\n")
    _head(("patients", "µs CPU a patient-second", "streams in real time a core", "stages, µs"))
    for n in counts:
        cost = engine_cost(n, seconds=20 if args.quick else 40)
        report["engine"][n] = cost
        stages = "  ".join(f"{name} {us:.0f}" for name, us in cost["stages_us"].items())
        _row((n, f"{cost['us_per_patient_second']:.0f}", f"{cost['streams_per_core']:.0f}", stages))
    report["us_per_reading"] = {n: reading_cost(n) for n in counts}
    each = ", ".join(f"{us:.0f} at {n}" for n, us in report["us_per_reading"].items())
    sys.stdout.write(f"\na glucose reading costs so many µs CPU with so many in a tick: {each}\n\n")
    _head(("patients", "alerts", "latency ms p50", "p99", "max", "RSS MB", "start s", "agent CPU %"))
    for n in live_counts:
        figures = asyncio.run(live_figures(n, seconds=25.0 if args.quick else 45.0))
        report["live"][n] = figures
        _row(
            (
                n,
                figures["alerts"],
                *(f"{figures[key]:.0f}" for key in ("latency_p50_ms", "latency_p99_ms", "latency_max_ms", "rss_mb")),
                f"{figures['start_s']:.2f}",
                f"{figures['cpu_percent']:.0f}",
            )
        )
    first, last = report["live"][live_counts[0]], report["live"][live_counts[-1]]
    report["kb_per_patient"] = 1000 * (last["rss_mb"] - first["rss_mb"]) / (live_counts[-1] - live_counts[0])
    sys.stdout.write(f"\nmemory: {first['rss_mb']:.0f} MB with one patient, ")
    sys.stdout.write(f"{report['kb_per_patient']:.0f} kB for each further one\n")
    sys.stdout.write(_against_budget(report, counts[-1], live_counts))
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=1))
    return 0


def clock_command(args: argparse.Namespace) -> int:
    """Only the clock, which is the same on every machine: print its errors, and write JSON where asked."""
    nights = {seed: clock_errors(seed) for seed in range(CLOCK_NIGHTS)}
    sys.stdout.write(f"error of a frame's time over {HOURS} h, ms\n")
    _head(("night", "dated by", "p50", "p95", "max"))
    for seed, errors in nights.items():
        for way, spread in errors.items():
            _row((seed, way, *(f"{spread[key]:.2f}" for key in ("p50", "p95", "max"))))
    if args.json:
        Path(args.json).write_text(json.dumps({"vagus": __version__, "clock_error_ms": nights}, indent=1))
    return 0


def ble_command(args: argparse.Namespace) -> int:
    """Only five wearables over Bluetooth: print what they cost, and write JSON where asked; 1 past the budget."""
    from agent.bench.wearables import WEARABLES, wearable_figures  # noqa: PLC0415 - needs bumble

    figures = asyncio.run(wearable_figures(BLE_S))
    sys.stdout.write(f"{len(WEARABLES)} wearables over Bluetooth for {BLE_S:.0f} s on {machine()}\n")
    _head(("process", "CPU % of a core", "RSS MB", "notifications a second"))
    for what, words in (("source", "the Bluetooth source alone"), ("agent", "the whole agent, with its models")):
        keys = ("cpu_percent", "rss_mb", "notifications_a_second")
        _row((words, *(f"{figures[what][key]:.1f}" for key in keys)))
    goal, kept = BUDGET["ble_cpu_percent"], figures["source"]["cpu_percent"] <= BUDGET["ble_cpu_percent"]
    sys.stdout.write(f"goal for the source: {goal:.0f} %: {'kept' if kept else 'MISSED'}\n")
    if args.json:
        Path(args.json).write_text(json.dumps({"vagus": __version__, "machine": machine(), "ble": figures}, indent=1))
    return 0 if kept else 1


def machine() -> str:
    """Processor and system, as the figures must be read with them."""
    names = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith(("model name", "Model"))
    ]
    cores = len([name for name in names if name]) or 1
    return f"{names[0] if names else platform.machine()} ({cores} cores), Python {platform.python_version()}"


def _against_budget(report: dict[str, Any], most: int, live_counts: tuple[int, ...]) -> str:
    measured = {
        "streams_per_core": report["engine"][most]["streams_per_core"],
        "latency_p99_ms_1": report["live"][1]["latency_p99_ms"],
        "memory_mb": report["live"][1]["rss_mb"],
        "kb_per_patient": report["kb_per_patient"],
        "start_s": report["live"][1]["start_s"],
    }
    if live_counts[-1] == 1000:
        measured["latency_p99_ms_1000"] = report["live"][1000]["latency_p99_ms"]
    report["budget"] = {name: {"measured": value, "goal": BUDGET[name]} for name, value in measured.items()}
    lines = ["\nagainst the budget:"]
    for name, value in measured.items():
        kept = value >= BUDGET[name] if name == "streams_per_core" else value <= BUDGET[name]
        lines.append(f"  {name:22} {value:10.1f}   goal {BUDGET[name]:8.1f}   {'kept' if kept else 'MISSED'}")
    return "\n".join(lines) + "\n"


def _head(columns: tuple[str, ...]) -> None:
    sys.stdout.write(" | ".join(columns) + "\n" + " | ".join("-" * len(column) for column in columns) + "\n")


def _row(values: tuple[object, ...]) -> None:
    sys.stdout.write(" | ".join(str(value) for value in values) + "\n")
    sys.stdout.flush()
