"""What the service manager is told: a real process that speaks to a real socket, and hangs on a real file."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent import audit
from agent.progress import Progress
from agent.systemd import ServiceManager, in_words

CONFIG = """
[agent]
id = "box"
state_dir = "{state}"
workers = {workers}
[mqtt]
host = "127.0.0.1"
port = 1 # where no broker is
[[patient]]
id = "p1"
[[patient.source]]
type = "mqtt"
device = "patch-1"
channel = "ecg"
kind = "ecg"
rate_hz = 250
"""
WATCHDOG_S = 2.0
LONGEST_S = 60.0


class Manager:
    """The service manager's end: what it is told, in order."""

    def __init__(self, path: Path) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(str(path))
        self._sock.settimeout(LONGEST_S)
        self.path = path
        self.heard: list[str] = []

    def until(self, begins: str) -> list[str]:
        """What comes up to the first message that begins so."""
        said: list[str] = []
        while not said or not said[-1].startswith(begins):
            said.append(self._sock.recv(4096).decode())
        self.heard += said
        return said

    def close(self) -> None:
        self._sock.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    end = Manager(tmp_path / "notify")
    yield end
    end.close()


@contextmanager
def agent(folder: Path, manager: Manager, *, workers: int = 1) -> Iterator[subprocess.Popen[bytes]]:
    config = folder / "vagus.toml"
    config.write_text(CONFIG.format(state=folder / "state", workers=workers))
    told = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": str(round(WATCHDOG_S * 1e6))}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "agent.cli", "run", str(config)], env={**os.environ, **told}, stderr=log
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_the_watchdog_is_fed_while_the_worker_ticks_and_not_while_it_hangs(tmp_path: Path, manager: Manager) -> None:
    (tmp_path / "state").mkdir()
    file = tmp_path / "state" / audit.FILE_NAME
    os.mkfifo(file)  # whoever opens it to write waits for a reader, as for a disk that hangs
    disk = os.open(file, os.O_RDWR)
    with agent(tmp_path, manager) as process:
        manager.until("READY=1")
        manager.until("WATCHDOG=1")
        manager.until("WATCHDOG=1")  # nobody sends anything: an idle agent is a live one

        os.close(disk)
        manager.until("STATUS=stalled")
        assert "WATCHDOG=1" not in manager.until("STATUS=stalled")

        disk = os.open(file, os.O_RDWR)
        manager.until("WATCHDOG=1")
        process.send_signal(signal.SIGTERM)
        manager.until("STOPPING=1")
        assert process.wait(LONGEST_S) == 0
    os.close(disk)


def test_a_parent_of_workers_speaks_for_all_of_them(tmp_path: Path, manager: Manager) -> None:
    with agent(tmp_path, manager, workers=2) as process:
        manager.until("READY=1")
        manager.until("WATCHDOG=1")
        process.send_signal(signal.SIGTERM)
        manager.until("STOPPING=1")
        assert process.wait(LONGEST_S) == 0
    assert manager.heard.count("READY=1") == 1


def test_whom_nobody_asks_says_nothing() -> None:
    nobody = ServiceManager({})
    asyncio.run(nobody.run(Progress(), lambda: "never asked for"))
    nobody.ready()
    assert nobody.watchdog_s is None


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_a_watchdog_is_fed_by_whom_it_was_asked_of(asked: dict[str, str], expected: float | None) -> None:
    assert ServiceManager(asked).watchdog_s == expected


def test_a_manager_that_is_gone_ends_nothing(tmp_path: Path) -> None:
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready()


def test_a_status_is_one_line_and_said_when_it_changes(manager: Manager) -> None:
    said = ServiceManager({"NOTIFY_SOCKET": str(manager.path)})
    said.status(in_words(2, ["no broker\nREADY=1"]))
    said.status(in_words(2, ["no broker\nREADY=1"]))
    said.stopping()
    assert manager.until("STOPPING=1") == ["STATUS=watching 2, but no broker READY=1", "STOPPING=1"]


def test_an_abstract_socket_is_one_with_an_at_sign(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.settimeout(LONGEST_S)
        end.bind(f"\0vagus{os.getpid()}")
        ServiceManager({"NOTIFY_SOCKET": f"@vagus{os.getpid()}"}).ready()
        assert end.recv(64) == b"READY=1"
