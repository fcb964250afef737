"""A staged update of many agents over one real broker: only what installs at the very end is played."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptography")
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.broker import LocalBroker
from agent.fleet.installer import Outcome
from agent.fleet.listener import FILE_NAME, UpdateListener
from agent.fleet.order import Envelope, Order, RollOutFile, Trust, sign, sign_both
from agent.fleet.roll_out import RollOut, Times
from agent.fleet.watcher import Watcher
from agent.mqtt import MqttConnection, Will
from agent.uplink.evidence import rfc3339
from agent.uplink.messages import StatusMessage, offline_payload
from agent.uplink.topics import Topics, order_topic

pytestmark = pytest.mark.broker
Run = Callable[[Coroutine[Any, Any, None]], None]

AGENTS = int(os.environ.get("VAGUS_FLEET_AGENTS", "200"))
KEY = Ed25519PrivateKey.generate()
OLD, NEW = "0.2.0", "0.3.0"
PATIENT = Times(patience_s=100.0, soak_s=0.2)
FAR = rfc3339(4_000_000_000_000_000_000)
ORDER = Order(action="install", version=NEW, bundle="/b.tar", sha256="ab" * 32, length=1, sequence=10, expires=FAR)


@dataclass(slots=True)
class Machine:
    """In place of the installer: what it was asked, and what it is told to answer."""

    works: bool = True
    version: str = OLD
    asked: list[str] = field(default_factory=list)
    at_work: int = 0

    async def apply(self, order: Order) -> Outcome:
        assert self.at_work == 0, "two updates at once"
        self.at_work += 1
        self.asked.append(f"{order.action} {order.version}")
        await asyncio.sleep(0)
        self.at_work -= 1
        if order.action == "install" and not self.works:
            return Outcome(done=False, words="its golden recording gave other alerts")
        self.version = order.version if order.action == "install" else OLD
        return Outcome(done=True)


class Agent:
    """As much of an agent as a roll-out sees: its status, and the real listener."""

    def __init__(self, port: int, name: str, ring: str, folder: Path, machine: Machine) -> None:
        self.machine, self.ring, topics = machine, ring, Topics(name)
        self._changed = asyncio.Event()
        will = Will(topics.status, offline_payload(name))
        self.uplink = MqttConnection("127.0.0.1", port, name, will=will, clean_start=True)
        self.listener = UpdateListener(
            MqttConnection("127.0.0.1", port, f"{name}-update", clean_start=True, session_expiry_s=0),
            Trust([KEY.public_key()]),
            machine,
            ring=ring,
            running=machine.version,
            path=folder / f"{name}-{FILE_NAME}",
            jitter_s=0.05,
            on_change=self._changed.set,
        )
        self._topics = topics

    async def speak(self) -> None:
        await self.uplink.wait_connected()
        while True:
            self._changed.clear()
            status = StatusMessage(
                agent=self._topics.agent,
                state="online",
                at=rfc3339(1),
                version=self.machine.version,
                update=self.listener.health(),
            )
            await self.uplink.publish(self._topics.status, status.payload(), retain=True)
            await self._changed.wait()

    def state(self) -> str:
        return self.listener.health().state


@asynccontextmanager
async def house(port: int, folder: Path, rings: Mapping[str, str], bad: set[str]) -> AsyncIterator[dict[str, Agent]]:
    """Agents by name; `rings`: name → ring."""
    agents = {name: Agent(port, name, ring, folder, Machine(name not in bad)) for name, ring in rings.items()}
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        for agent in agents.values():
            await stack.enter_async_context(agent.uplink)
            await stack.enter_async_context(agent.listener.connection)
        running = [tasks.create_task(agent.speak()) for agent in agents.values()]
        running += [tasks.create_task(agent.listener.run()) for agent in agents.values()]
        yield agents
        for task in running:
            task.cancel()


@asynccontextmanager
async def technician(port: int, agents: int) -> AsyncIterator[tuple[MqttConnection, Watcher]]:
    """Who has heard of all agents."""
    connection = MqttConnection("127.0.0.1", port, "technician", clean_start=True)
    watcher = Watcher(connection)
    async with connection:
        hearing = asyncio.create_task(watcher.run())
        while len(watcher.statuses) < agents:
            await watcher.changed()
        yield connection, watcher
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)


def rings_of(count: int) -> dict[str, str]:
    """A tenth canaries, half of the rest on the ward."""
    kinds = {k: "canary" if k < count // 10 else "ward" if k < count // 2 else "rest" for k in range(count)}
    return {f"bed-{k:03}": ring for k, ring in kinds.items()}


def test_a_bad_ring_is_taken_back_and_the_rest_never_hears_of_it(run: Run, tmp_path: Path) -> None:
    rings = rings_of(AGENTS)
    ward = [name for name, ring in rings.items() if ring == "ward"]
    bad = set(ward[: len(ward) // 4])

    async def scenario() -> None:
        async with (
            LocalBroker(kind="mosquitto") as broker,
            house(broker.port, tmp_path, rings, bad) as agents,
            technician(broker.port, AGENTS) as (connection, watcher),
        ):
            said: list[str] = []
            roll_out = RollOut(connection, watcher, sign_both(ORDER, KEY), PATIENT, said.append)
            assert not await roll_out.run(["canary", "ward", "all"])
            assert {agent.machine.version for agent in agents.values()} == {OLD}
            assert {agent.state() for agent in agents.values() if agent.ring != "rest"} == {"rolled_back"}
            assert {agent.state() for agent in agents.values() if agent.ring == "rest"} == {"waiting"}
            canaries = [agent.machine.asked for agent in agents.values() if agent.ring == "canary"]
            assert canaries == [[f"install {NEW}", f"roll_back {NEW}"]] * len(canaries)
            assert not any(agent.machine.asked for agent in agents.values() if agent.ring == "rest")
            assert any("ring ward: BAD" in line and "golden recording" in line for line in said)
            assert said[-1] == f"all are back from {NEW}"
            # What is mended goes out with the next number, to everybody.
            for agent in agents.values():
                agent.machine.works = True
            mended = sign_both(ORDER.model_copy(update={"version": "0.3.1", "sequence": 12}), KEY)
            assert await RollOut(connection, watcher, mended, PATIENT, said.append).run(["canary", "ward", "all"])
            assert {agent.machine.version for agent in agents.values()} == {"0.3.1"}
            assert all(agent.machine.asked.count("install 0.3.1") == 1 for agent in agents.values())

    run(scenario())


def test_a_lone_canary_that_fails_is_enough_and_a_ring_of_nobody_is_a_slip(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            LocalBroker(kind="mosquitto") as broker,
            house(broker.port, tmp_path, {"a": "canary", "b": "ward"}, {"a"}) as agents,
            technician(broker.port, 2) as (connection, watcher),
        ):
            roll_out = RollOut(connection, watcher, sign_both(ORDER, KEY), PATIENT, lambda _: None)
            with pytest.raises(ValueError, match="nobody who is there is in the ring 'wards'"):
                await roll_out.run(["canary", "wards"])
            assert agents["a"].state() == "waiting"
            assert not await roll_out.run(["canary", "ward"])
            assert agents["b"].machine.asked == []

    run(scenario())


def test_one_that_fails_does_not_stop_the_others(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            LocalBroker(kind="mosquitto") as broker,
            house(broker.port, tmp_path, dict.fromkeys(("a", "b", "c"), "ward"), {"b"}) as agents,
            technician(broker.port, 3) as (connection, watcher),
        ):
            said: list[str] = []
            assert await RollOut(connection, watcher, sign_both(ORDER, KEY), PATIENT, said.append).run(["ward"])
            assert [agent.machine.version for agent in agents.values()] == [NEW, OLD, NEW]
            assert "2 of 3 have it and are well, not b" in said[-2]

    run(scenario())


def test_forged_expired_and_old_orders_are_refused_by_name(run: Run, tmp_path: Path) -> None:
    past = ORDER.model_copy(update={"expires": rfc3339(1)})
    forged = sign(ORDER, Ed25519PrivateKey.generate())
    elsewhere = sign(ORDER.model_copy(update={"rings": ["canary"]}), KEY)
    bad = {"forged": forged, "expired": sign(past, KEY), "other_ring": elsewhere}
    bad["unreadable"] = Envelope(order="{}", signature=sign(ORDER, KEY).signature)

    async def scenario() -> None:
        async with (
            LocalBroker(kind="mosquitto") as broker,
            house(broker.port, tmp_path, {"a": "ward"}, set()) as agents,
            technician(broker.port, 1) as (connection, watcher),
        ):

            async def until(holds: Callable[[], bool]) -> None:
                while not holds():
                    await watcher.changed()

            def detail() -> str:
                update = watcher.statuses["a"].update
                return update.detail if update is not None else ""

            for kind, envelope in bad.items():
                await connection.publish(order_topic("ward"), envelope.payload(), retain=True)
                # An order whose text was never signed is forged, whatever it says.
                named = "forged" if kind == "unreadable" else kind
                await until(lambda named=named: f"refused ({named})" in detail())  # type: ignore[misc]
            assert agents["a"].machine.asked == []
            file = RollOutFile(install=sign(ORDER, KEY), roll_back=sign_both(ORDER, KEY).roll_back)
            assert await RollOut(connection, watcher, file, PATIENT, lambda _: None).run(["ward"])
            older = sign(ORDER.model_copy(update={"version": "0.1.0", "sequence": 9}), KEY)
            await connection.publish(order_topic("ward"), older.payload(), retain=True)
            await connection.publish(order_topic("all"), file.install.payload(), retain=True)  # once more: no news
            again = sign(ORDER.model_copy(update={"version": "0.3.1", "sequence": 11}), KEY)
            await connection.publish(order_topic("ward"), again.payload(), retain=True)
            await until(lambda: watcher.statuses["a"].version == "0.3.1")
            assert agents["a"].machine.asked == [f"install {NEW}", "install 0.3.1"]

    run(scenario())


def test_an_agent_that_was_ended_meanwhile_goes_on_where_it_was(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with LocalBroker(kind="mosquitto") as broker:
            async with house(broker.port, tmp_path, {"a": "ward"}, set()), technician(broker.port, 1) as (one, watcher):
                assert await RollOut(one, watcher, sign_both(ORDER, KEY), PATIENT, lambda _: None).run(["ward"])
            # The same agent again: the broker repeats the order, which is done already.
            async with (
                house(broker.port, tmp_path, {"a": "ward"}, set()) as agents,
                technician(broker.port, 1) as (
                    one,
                    watcher,
                ),
            ):
                assert agents["a"].state() == "done"
                back = sign_both(ORDER, KEY).roll_back
                await one.publish(order_topic("ward"), back.payload(), retain=True)
                while agents["a"].state() != "rolled_back":
                    await watcher.changed()
                assert agents["a"].machine.asked == [f"roll_back {NEW}"]

    run(scenario())
