"""How long the parts of a tick take, how old data is when it is on disk, and how many alarms there were."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram

from agent.alarms.alert import AlertEvent
from agent.ingest.source import Delivery
from firmware_bridge.chunk import NS_PER_S

TICK_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
LAG_BUCKETS_S = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Meters:
    """Counts on the worker's thread; any thread may read."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._tick = Histogram(
            "vagus_tick_seconds", "One tick, from its data to the commit", buckets=TICK_BUCKETS_S, registry=registry
        )
        self._stage = Histogram(
            "vagus_stage_seconds", "A part of a tick", ["stage"], buckets=TICK_BUCKETS_S, registry=registry
        )
        self._lag = Histogram(
            "vagus_lag_seconds",
            "Age of a tick's oldest fresh sample when all that it led to was on disk",
            buckets=LAG_BUCKETS_S,
            registry=registry,
        )
        self._alarms = Counter(
            "vagus_alarm_events", "Transitions of alarms", ["rule", "priority", "phase"], registry=registry
        )

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a part of a tick."""
        began_s = time.perf_counter()
        try:
            yield
        finally:
            self._stage.labels(name).observe(time.perf_counter() - began_s)

    def ticked(self, took_s: float, deliveries: Sequence[Delivery], events: Sequence[AlertEvent], late_ns: int) -> None:
        """A tick is done. `late_ns`: data older than that tells nothing of how the agent keeps up."""
        if deliveries:
            now_ns = time.time_ns()
            self._tick.observe(took_s)
            ages_ns = (now_ns - chunk.end_ns for delivery in deliveries for chunk in delivery.chunks)
            oldest_ns = max((age_ns for age_ns in ages_ns if age_ns <= late_ns), default=None)
            if oldest_ns is not None:
                self._lag.observe(max(0.0, oldest_ns / NS_PER_S))
        for event in events:
            self._alarms.labels(event.rule.partition(":")[0], event.priority.value, event.phase.value).inc()
