"""The agent's side of a roll-out: it hears the orders of its ring, refuses what is none, and obeys one at a time.

What it has obeyed is on disk before it begins, since installing a version ends this very process.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, Literal

from agent.fleet.installer import Outcome, Updater
from agent.fleet.order import Order, OrderRefused, Trust
from agent.mqtt import MqttConnection
from agent.uplink.messages import UpdateHealth
from agent.uplink.topics import order_topic

log = logging.getLogger(__name__)

FILE_NAME: Final = "update.json"
EVERYBODY: Final = "all"
"""The ring that every agent with a ring is in too."""
MOST_ATTEMPTS = 3
"""An update that ends the agent so often without being done is given up."""
_chance = random.SystemRandom()
State = Literal["waiting", "installing", "done", "failed", "rolling_back", "rolled_back"]


@dataclass(frozen=True, slots=True)
class Standing:
    """What is kept over a restart."""

    sequence: int = 0
    version: str = ""
    state: State = "waiting"
    detail: str = ""
    attempts: int = 0
    installed: str = ""
    """The version that an order installed here last, and none took back."""


class UpdateListener:
    """Hears, judges and obeys; its methods belong to the event loop's thread."""

    def __init__(
        self,
        connection: MqttConnection,
        trust: Trust,
        updater: Updater,
        *,
        ring: str,
        running: str,
        path: Path,
        jitter_s: float,
        on_change: Callable[[], None],
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`running`: this agent's version. `jitter_s`: an order is obeyed at some moment within so many seconds."""
        self.connection, self._trust, self._updater = connection, trust, updater
        self._ring, self._running, self._path = ring, running, path
        self._jitter_s, self._on_change, self._clock_ns = jitter_s, on_change, clock_ns
        self._refused = ""
        self._orders: asyncio.Queue[Order] = asyncio.Queue()
        self._standing = _kept(path)
        if self._standing.state == "installing" and self._standing.version == running:
            self._stand(replace(self._standing, state="done", detail="", attempts=0, installed=running))
        elif self._standing.state == "rolling_back" and self._standing.version != running:
            self._stand(replace(self._standing, state="rolled_back", detail="", attempts=0, installed=""))

    def health(self) -> UpdateHealth:
        """For the status."""
        standing = self._standing
        words = "; ".join(part for part in (standing.detail, self._refused) if part)
        return UpdateHealth(ring=self._ring, version=standing.version, state=standing.state, detail=words)

    async def run(self) -> None:
        """Hear and obey until cancelled."""
        rings = dict.fromkeys((self._ring, EVERYBODY))
        self.connection.subscribe_nowait(*(order_topic(ring) for ring in rings))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._obey(), name="updates")
            async for message in self.connection.messages():
                if message.payload:
                    self._hear(message.payload, message.topic.split("/")[-2])
                self.connection.ack(message)

    def _hear(self, payload: bytes, ring: str) -> None:
        """Judge an order that came over the topic of `ring`."""
        newest = self._standing.sequence
        try:
            order = self._trust.verify(payload, ring=ring, now_ns=self._clock_ns(), newest=newest)
        except OrderRefused as error:
            if error.kind == "old":  # of another ring, or from before: nobody need see to it
                log.info("a roll-out order is old: %s", error)
                return
            words = f"an order was refused ({error.kind}): {error}"
            log.warning("%s", words)
            if words != self._refused:
                self._refused = words
                self._on_change()
            return
        self._orders.put_nowait(order)

    async def _obey(self) -> None:
        while True:
            order = await self._orders.get()
            while not self._orders.empty():  # what is overtaken is not begun any more
                order = max(order, self._orders.get_nowait(), key=lambda one: one.sequence)
            standing = self._standing
            busy = standing.state in {"installing", "rolling_back"}
            if order.sequence < standing.sequence or (order.sequence == standing.sequence and not busy):
                continue
            await self._obey_one(order)

    async def _obey_one(self, order: Order) -> None:
        self._refused = ""
        standing = self._standing
        attempts = standing.attempts + 1 if order.sequence == standing.sequence else 1
        begun = replace(standing, sequence=order.sequence, version=order.version, attempts=attempts, detail="")
        installs = order.action == "install"
        if attempts > MOST_ATTEMPTS:
            words = f"given up: the agent was ended {MOST_ATTEMPTS} times while it was at it"
            self._stand(replace(begun, state="failed", detail=words))
            return
        if not installs and standing.installed != order.version and standing.state != "rolling_back":
            # Nothing to take back. What failed here stays known as failed.
            had_failed = standing.version == order.version and standing.state == "failed"
            detail = standing.detail if had_failed else "it had not been installed here"
            self._stand(replace(begun, state="rolled_back", detail=detail))
            return
        if installs and self._running == order.version:
            self._stand(replace(begun, state="done", installed=order.version, detail="it ran here already"))
            return
        self._stand(replace(begun, state="installing" if installs else "rolling_back"))
        if attempts == 1:
            await asyncio.sleep(_chance.uniform(0, self._jitter_s))
            if not self._orders.empty():  # overtaken before it began
                return
        outcome = await self._apply(order)
        if not outcome.done:
            self._stand(replace(begun, state="failed", detail=outcome.words or "the installer does not say why"))
        elif installs:
            self._running = order.version
            self._stand(replace(begun, state="done", installed=order.version))
        else:
            self._stand(replace(begun, state="rolled_back", installed=""))

    async def _apply(self, order: Order) -> Outcome:
        try:
            return await self._updater.apply(order)
        except Exception as error:  # monitoring goes on, whatever becomes of an update
            log.exception("the update to %s failed", order.version)
            return Outcome(done=False, words=f"{type(error).__name__}: {error}")

    def _stand(self, standing: Standing) -> None:
        self._standing = standing
        beside = self._path.with_suffix(".new")
        try:
            with beside.open("w") as file:
                json.dump(asdict(standing), file)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
        except OSError as error:
            log.warning("%s cannot be written: %s", self._path, error)
        log.info("update %s: %s %s", standing.version, standing.state, standing.detail)
        self._on_change()


def _kept(path: Path) -> Standing:
    with suppress(OSError, ValueError, TypeError):
        return Standing(**json.loads(path.read_text()))
    return Standing()
