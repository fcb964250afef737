"""What a second process brings: `python -m agent.bench.workers [PATIENTS [SECONDS]]`, one worker and two in turn.

Broker and sensors need a core of their own: on a machine with two, latency with two workers is theirs as well.
"""

from __future__ import annotations

import asyncio
import sys

from agent.bench.live import live_figures

PATIENTS, SECONDS, ROUNDS = 500, 30.0, 2


def main(argv: list[str]) -> int:
    patients = int(argv[0]) if argv else PATIENTS
    seconds = float(argv[1]) if argv[1:] else SECONDS
    for workers in (1, 2) * ROUNDS:
        one = asyncio.run(live_figures(patients, seconds=seconds, workers=workers))
        sys.stdout.write(
            f"{patients} patients, {workers} worker(s): {one['cpu_percent']:.0f} % of a core, {one['rss_mb']:.0f} MB,"
            f" alerts {one['alerts']}, p50 {one['latency_p50_ms']:.0f} ms, p99 {one['latency_p99_ms']:.0f} ms,"
            f" start {one['start_s']:.1f} s\n"
        )
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
