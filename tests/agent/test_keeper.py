"""A worker that dies at once, hangs, or talks nonsense is told of and started again, and takes nobody along."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent.ingest.source import Delivery
from agent.standing import StandingAlarms
from agent.uplink.messages import StatusMessage
from agent.uplink.outbox import Outbox
from agent.uplink.topics import Topics
from agent.worker import Worker
from agent.workers import keeper as module
from agent.workers.keeper import Keeper
from agent.workers.parent import Nobody
from agent.workers.shares import Layout
from agent.workers.talk import Orders

STATUS = StatusMessage(agent="ward", state="online").model_dump_json()


class Watched:
    """A keeper whose worker is a program of this test's, and what it said of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, program: str) -> None:
        path = folder / "worker"
        path.write_text(f"#!{sys.executable}\nimport os, sys, time\nfd = int(sys.argv[-1])\n{program}\n")
        path.chmod(0o700)
        monkeypatch.setattr(module, "sys", SimpleNamespace(executable=str(path), path=sys.path))
        monkeypatch.setattr("agent.workers.budget.FIRST_S", 0.0)
        self.seen: list[tuple[str, int, str]] = []
        self._changed = asyncio.Event()
        self.keeper = Keeper(Orders("", folder / "agent.toml", Layout(2), 1), self._note)

    def _note(self) -> None:
        self.seen.append((self.keeper.state, self.keeper.deaths, self.keeper.trouble))
        self._changed.set()

    async def until(self, deaths: int) -> str:
        """Run it until it has died so often; what was told of that."""
        running = asyncio.create_task(self.keeper.run())
        while not self.seen or self.seen[-1][1] < deaths:
            self._changed.clear()
            await self._changed.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return next(trouble for state, count, trouble in self.seen if (state, count) == ("down", deaths))


def test_one_that_dies_at_once_is_left_alone_after_the_fifth_time_and_is_told_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        watched = Watched(monkeypatch, tmp_path, "sys.exit(3)")
        assert await watched.until(5) == "ended with exit status 3"
        assert [deaths for _, deaths, _ in watched.seen] == [1, 2, 3, 4, 5]
        assert "started again in 300 s" in caplog.messages[-1]
        assert watched.keeper.pid is None

    asyncio.run(scenario())


def test_one_that_says_nothing_any_more_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "HANG_S", 0.2)

    async def scenario() -> None:
        program = f"os.write(fd, b'{{\"status\": ' + {STATUS.encode()!r} + b'}}\\n')\ntime.sleep(600)"
        watched = Watched(monkeypatch, tmp_path, program)
        assert await watched.until(1) == "said nothing for 0.2 s and was killed"
        assert watched.seen[0] == ("running", 0, "")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "line", [b"nonsense\n", b"[]\n", b'{"status": {"agent": 7}}\n', b'{"later": 1}\n', b"\xff\n", b"half"]
)
def test_what_cannot_be_read_costs_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: bytes) -> None:
    async def scenario() -> None:
        watched = Watched(monkeypatch, tmp_path, f"os.write(fd, {line!r})\nsys.exit(0)")
        await watched.until(1)
        assert watched.keeper.status is None

    asyncio.run(scenario())


def test_a_program_that_is_not_there_is_told_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def scenario() -> None:
        watched = Watched(monkeypatch, tmp_path, "")
        (tmp_path / "worker").unlink()
        assert (await watched.until(1)).startswith("cannot be started")

    asyncio.run(scenario())


def test_what_was_asked_of_a_worker_arrives_as_it_was() -> None:
    orders = Orders('[agent]\nid = "ü"\n', Path("/etc/vagus.toml"), Layout(3, frozenset({"a"}), 5), 2, leaving=True)
    assert Orders.of_line(orders.line()) == orders
    assert orders.line().count(b"\n") == 1
    assert os.linesep not in orders.line().decode().rstrip()


def test_whoever_watches_nobody_still_keeps_what_is_said_of_the_agent(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.sqlite")
    worker = Worker(Nobody(), outbox, Topics("ward"), wall=True, standing=StandingAlarms(tmp_path / "standing.json"))  # type: ignore[arg-type]
    worker.recover(lambda *_: ())
    worker.stand({("ward", "worker_down:1"): "Worker 1 is down"}, time.time_ns())
    asked = json.dumps({"patient": "nobody", "by": "me", "alert_id": "x"}).encode()
    command = Delivery((), "cmd/ack", None, asked, 0, lambda: None, "ack")
    assert worker.tick([command], time.time_ns()) == []
    ((_, outcome),) = worker.answers()
    assert not outcome.accepted
    worker.save_all()
    assert any(b"worker_down:1" in row.message.payload for row in outbox.pending())
    outbox.close()
