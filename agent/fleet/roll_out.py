"""Ring after ring: publish, wait until all have it and are well for a while, go on; or stop and take it back."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from agent.fleet.listener import EVERYBODY
from agent.fleet.order import RollOutFile
from agent.fleet.watcher import Watcher
from agent.mqtt import MqttConnection
from agent.uplink.messages import JSON_TYPE, StatusMessage
from agent.uplink.topics import order_topic

PATIENCE_S: Final = 1800.0
SOAK_S: Final = 600.0
LIMIT_SHARE: Final = 0.05
"""Failures of a ring that are borne: one, or this share of it, whichever is more."""


class Verdict(Enum):
    """What is known of a ring at one moment."""

    WAIT = "wait"
    GOOD = "good"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Ring:
    """Who was in it, and how they were, when its order went out."""

    name: str
    before: Mapping[str, StatusMessage]
    left_out: tuple[str, ...]
    """Silent before: nobody waits for them; the order stands there for when they come back."""

    @classmethod
    def of(cls, name: str, statuses: Mapping[str, StatusMessage]) -> Ring:
        inside = {
            agent: status
            for agent, status in sorted(statuses.items())
            if status.update is not None and name in (status.update.ring, EVERYBODY)
        }
        present = {agent: status for agent, status in inside.items() if status.state != "offline"}
        # A last will has no ring; who is silent is known by what was said of it before, if anything was.
        return cls(name, present, tuple(agent for agent in inside if agent not in present))

    @property
    def limit(self) -> int:
        """So many may fail: fewer than half in any case, so that a lone canary counts."""
        agents = len(self.before)
        return max(0, min(max(1, math.floor(LIMIT_SHARE * agents)), (agents - 1) // 2))

    def failures(self, version: str, statuses: Mapping[str, StatusMessage]) -> dict[str, str]:
        """Who has failed so far, and why."""
        failed: dict[str, str] = {}
        for agent in self.before:
            update = statuses[agent].update
            if update is not None and update.version == version and update.state in {"failed", "rolled_back"}:
                failed[agent] = update.detail or update.state.replace("_", " ")
        return failed

    def unwell(self, version: str, statuses: Mapping[str, StatusMessage]) -> dict[str, str]:
        """Who has not got it, or is worse than before, and in what way."""
        found: dict[str, str] = {}
        for agent, before in self.before.items():
            now = statuses[agent]
            new = [reason for reason in now.reasons if reason not in before.reasons]
            if now.state == "offline":
                found[agent] = "silent"
            elif now.update is None or now.update.version != version or now.update.state != "done":
                words = now.update.detail or now.update.state.replace("_", " ") if now.update is not None else "no ring"
                found[agent] = words
            elif new:
                found[agent] = new[0]
        return found

    def verdict(self, version: str, statuses: Mapping[str, StatusMessage]) -> Verdict:
        """GOOD: whoever has not failed has it and is well."""
        failed = self.failures(version, statuses)
        if len(failed) > self.limit:
            return Verdict.BAD
        return Verdict.WAIT if self.unwell(version, statuses).keys() - failed.keys() else Verdict.GOOD


@dataclass(frozen=True, slots=True)
class Times:
    """How long to wait, in seconds."""

    patience_s: float = PATIENCE_S
    """For a whole ring to have the version."""
    soak_s: float = SOAK_S
    """For a whole ring to stay well."""


class RollOut:
    """One order through the rings. What it does is said as it is done."""

    def __init__(
        self, connection: MqttConnection, watcher: Watcher, file: RollOutFile, times: Times, say: Callable[[str], None]
    ) -> None:
        """Raises OrderRefused where `file` cannot be read; the agents judge who signed it."""
        self._connection, self._watcher, self._file, self._times, self._say = connection, watcher, file, times, say
        self._version = file.install.read().version
        file.roll_back.read()

    async def run(self, rings: Sequence[str]) -> bool:
        """Whether all rings have it.

        Raises ValueError, with nothing done, for a ring that nobody is in, and MqttError where the broker does not
        take the orders.
        """
        for name in rings:
            if not Ring.of(name, self._watcher.statuses).before:
                raise ValueError(f"nobody who is there is in the ring {name!r}")
        touched: list[Ring] = []
        for name in rings:
            ring = Ring.of(name, self._watcher.statuses)
            touched.append(ring)
            self._say(f"ring {name}: {self._version} to {len(ring.before)} agents, at most {ring.limit} may fail")
            if ring.left_out:
                self._say(f"ring {name}: silent, not waited for: {', '.join(ring.left_out)}")
            await self._publish(name, self._file.install.payload())
            if not await self._is_good(ring):
                await self._take_back(touched)
                return False
        self._say(f"{self._version} runs in {', '.join(rings)}")
        return True

    async def publish_only(self, rings: Sequence[str]) -> None:
        """Without waiting for anybody."""
        for name in rings:
            await self._publish(name, self._file.install.payload())
            self._say(f"ring {name}: {self._version} ordered; nobody waits for it")

    async def _is_good(self, ring: Ring) -> bool:
        try:
            async with asyncio.timeout(self._times.patience_s):
                verdict = await self._decided(ring)
        except TimeoutError:
            self._say(f"ring {ring.name}: not all had it after {self._times.patience_s:g} s")
            verdict = Verdict.WAIT
        if verdict is Verdict.GOOD:
            self._say(
                f"ring {ring.name}: {self._result(ring)}; now {self._times.soak_s:g} s in which all must stay well"
            )
            await self._soaked(ring)
            verdict = ring.verdict(self._version, self._watcher.statuses)
        unwell = ring.unwell(self._version, self._watcher.statuses)
        if verdict is Verdict.BAD or len(unwell) > ring.limit:
            some = "; ".join(f"{agent}: {why}" for agent, why in list(unwell.items())[:5])
            more = f"; and {len(unwell) - 5} more" if len(unwell) > 5 else ""
            self._say(f"ring {ring.name}: BAD: {len(unwell)} of {len(ring.before)} are not well with it: {some}{more}")
            return False
        self._say(f"ring {ring.name}: good: {self._result(ring)}")
        return True

    def _result(self, ring: Ring) -> str:
        unwell = ring.unwell(self._version, self._watcher.statuses)
        without = f", not {', '.join(unwell)}" if unwell else ""
        return f"{len(ring.before) - len(unwell)} of {len(ring.before)} have it and are well{without}"

    async def _decided(self, ring: Ring) -> Verdict:
        while (verdict := ring.verdict(self._version, self._watcher.statuses)) is Verdict.WAIT:
            await self._watcher.changed()
        return verdict

    async def _soaked(self, ring: Ring) -> None:
        """Until the soak time is over, or the ring has turned bad."""
        try:
            async with asyncio.timeout(self._times.soak_s):
                while ring.verdict(self._version, self._watcher.statuses) is not Verdict.BAD:
                    await self._watcher.changed()
        except TimeoutError:
            return

    async def _take_back(self, touched: Sequence[Ring]) -> None:
        """In every ring that has the order: one version in the house is what people can mind."""
        for ring in touched:
            await self._publish(ring.name, self._file.roll_back.payload())
            self._say(f"ring {ring.name}: ordered back from {self._version}")
        waiting = {agent for ring in touched for agent in ring.before}
        try:
            async with asyncio.timeout(self._times.patience_s):
                while waiting := {agent for agent in waiting if not self._is_back(agent)}:
                    await self._watcher.changed()
        except TimeoutError:
            self._say(f"not back, or silent: {', '.join(sorted(waiting))}: somebody has to look at them")
            return
        self._say(f"all are back from {self._version}")

    def _is_back(self, agent: str) -> bool:
        status = self._watcher.statuses[agent]
        return status.state != "offline" and status.update is not None and status.update.state == "rolled_back"

    async def _publish(self, ring: str, payload: bytes) -> None:
        await self._connection.publish(order_topic(ring), payload, qos=1, retain=True, content_type=JSON_TYPE)
