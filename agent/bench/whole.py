"""The budget of the design, measured: streams a core, latency, memory, start."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

from agent import __version__
from agent.bench.engine_cost import engine_cost, reading_cost
from agent.bench.figures import finish, head, machine, row
from agent.bench.live import live_figures

BUDGET = {
    "streams_per_core": 2000.0,
    "latency_p99_ms_1": 50.0,
    "latency_p99_ms_1000": 300.0,
    "memory_mb": 150.0,
    "kb_per_patient": 100.0,
    "start_s": 2.0,
}


def whole_command(args: argparse.Namespace) -> int:
    """Run everything, print the tables, and write JSON where asked."""
    counts = (1, 10, 100) if args.quick else (1, 10, 100, 1000)
    live_counts = (1, 20) if args.quick else (1, 100, 1000)
    report: dict[str, Any] = {"engine": {}, "live": {}}
    sys.stdout.write(f"vagus {__version__} on {machine()}\n\n")
    head(("patients", "µs CPU a patient-second", "streams in real time a core", "stages, µs"))
    for n in counts:
        cost = engine_cost(n, seconds=20 if args.quick else 40)
        report["engine"][n] = cost
        stages = "  ".join(f"{name} {us:.0f}" for name, us in cost["stages_us"].items())
        row((n, f"{cost['us_per_patient_second']:.0f}", f"{cost['streams_per_core']:.0f}", stages))
    report["us_per_reading"] = {n: reading_cost(n) for n in counts}
    each = ", ".join(f"{us:.0f} at {n}" for n, us in report["us_per_reading"].items())
    sys.stdout.write(f"\na glucose reading costs so many µs CPU with so many in a tick: {each}\n\n")
    head(("patients", "alerts", "latency ms p50", "p99", "max", "RSS MB", "start s", "agent CPU %"))
    for n in live_counts:
        figures = asyncio.run(live_figures(n, seconds=25.0 if args.quick else 45.0))
        report["live"][n] = figures
        row(
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
    finish("quick" if args.quick else "whole", report, args)
    return 0


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
