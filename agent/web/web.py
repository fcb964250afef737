"""All of `[web]` for one agent: what is counted, what is shown of it, and where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from agent.config.web import WebConfig
from agent.progress import Progress
from agent.web.endpoints import Endpoints
from agent.web.exposition import families
from agent.web.facts import Facts
from agent.web.meters import Meters

PATIENCE_S = 5.0
"""For the worker's thread, which is asked between two ticks."""


class Web:
    """`meters` count from the start on; `open` lets others read."""

    def __init__(self, config: WebConfig) -> None:
        self._config = config
        self._registry = CollectorRegistry()
        self.meters = Meters(self._registry)
        ProcessCollector(registry=self._registry)

    def open(
        self, facts: Callable[[], Facts], thread: Executor, progress: Progress, reasons: Callable[[], Sequence[str]]
    ) -> Endpoints:
        """Serve from now on. `facts` is called on `thread`. Raises OSError where nothing can listen there."""
        self._registry.register(_OnThread(lambda: families(facts()), thread))
        endpoints = Endpoints(self._config.host, self._config.port, self._registry, progress, reasons)
        endpoints.start()
        return endpoints


class _OnThread(Collector):
    """Draws the metrics up on the worker's thread, between two ticks; raises TimeoutError where it is not free."""

    def __init__(self, draw: Callable[[], list[Metric]], thread: Executor) -> None:
        self._draw, self._thread = draw, thread

    def describe(self) -> list[Metric]:
        """Nothing is known before the first scrape, and none is made to find out."""
        return []

    def collect(self) -> list[Metric]:
        return self._thread.submit(self._draw).result(PATIENCE_S)
