"""Nobody reaches the real agent from outside unless its config says so: what the kernel tells of its sockets."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import struct
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_workers import WardProcess, is_online, listening

from agent.broker import LocalBroker
from agent.config.web import WebTable
from tests.peers.test_web_agent import free_port

pytestmark = pytest.mark.broker
Run = Callable[[Coroutine[Any, Any, None]], None]

LISTENS = "0A"
"""State of a TCP socket that takes connections, in /proc/net/tcp."""
UNCONNECTED = "07"
"""State of a UDP socket that takes datagrams from anybody, in /proc/net/udp."""


def family(pid: int) -> Iterator[int]:
    """The process and all its descendants."""
    yield pid
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            yield from family(int(child))


def sockets(pid: int) -> set[str]:
    """Inodes of the sockets that a process holds."""
    held = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(link.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            held.add(target[8:-1])
    return held


def address(told: str) -> tuple[str, int]:
    """Address and port as the kernel writes them: words of 32 bits in the machine's own order."""
    host, port = told.split(":")
    words = struct.pack(f"={len(host) // 8}I", *(int(host[i : i + 8], 16) for i in range(0, len(host), 8)))
    return str(ipaddress.ip_address(words)), int(port, 16)


def open_to_others(pid: int) -> set[tuple[str, int]]:
    """Where the process or a descendant of it takes what others send, over TCP or UDP."""
    held = {inode for one in family(pid) for inode in sockets(one)}
    found = set()
    for table, state in (("tcp", LISTENS), ("tcp6", LISTENS), ("udp", UNCONNECTED), ("udp6", UNCONNECTED)):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == state and fields[9] in held:
                found.add(address(fields[1]))
    return found


def when_it_runs(tmp_path: Path, workers: int, web: str) -> set[tuple[str, int]]:
    """Where an agent with this [web] table listens once all of it watches."""
    found: set[tuple[str, int]] = set()

    async def scenario() -> None:
        async with LocalBroker() as broker, listening(broker.port) as nurse:
            agent = WardProcess(tmp_path, broker.port, workers, time="wall")
            with (tmp_path / "agent.toml").open("a") as config:
                config.write(web)
            async with agent:
                await nurse.until(is_online(workers), "the agent is online")
                found.update(open_to_others(agent.pid))
                assert await agent.stop() == 0

    asyncio.run(asyncio.wait_for(scenario(), 120))
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_listens_without_a_word_in_the_config(tmp_path: Path, workers: int) -> None:
    assert when_it_runs(tmp_path, workers, "") == set()


def test_the_pages_are_on_the_loopback_interface_alone_by_default(tmp_path: Path) -> None:
    host = WebTable().listen.rpartition(":")[0]
    port = free_port()
    assert when_it_runs(tmp_path, 1, f'[web]\nlisten = "{host}:{port}"\n') == {("127.0.0.1", port)}


def test_the_pages_are_at_the_address_that_was_asked_for_and_nowhere_else(tmp_path: Path) -> None:
    port = free_port()
    assert when_it_runs(tmp_path, 1, f'[web]\nlisten = "127.0.0.2:{port}"\n') == {("127.0.0.2", port)}


def test_the_test_sees_a_socket_that_is_open_to_others() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind(("::1", 0))
        tcp.listen()
        udp.bind(("127.0.0.1", 0))
        wanted = {("::1", tcp.getsockname()[1]), ("127.0.0.1", udp.getsockname()[1])}
        assert wanted <= open_to_others(os.getpid())
