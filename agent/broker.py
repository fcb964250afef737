"""A broker of our own on the loopback interface, for the demo and the tests: mosquitto, else iotcore."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0
_SBIN = "/usr/sbin:/usr/local/sbin"


class BrokerError(RuntimeError):
    """No broker could be started; the message says why."""


def find_mosquitto() -> str | None:
    """Path of the mosquitto program, also where only root's PATH has it."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path=_SBIN)


class LocalBroker:
    """A broker that lives as long as the `async with` block and listens on 127.0.0.1 only.

    mosquitto writes its sessions, queues and retained messages to disk after every change, so that they outlive it.
    Two holes are left in 2.0.11: it acknowledges an instant before it saves, and what is on its way to a subscriber who
    is connected is saved only when it is stopped in good order. iotcore keeps nothing and speaks MQTT 3.1.1 only; it is
    for looking around.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        persistence_dir: Path | None = None,
        kind: Literal["mosquitto", "iotcore"] | None = None,
        max_queued: int = 0,
        max_inflight: int = 1000,
        password_file: Path | None = None,
        acl_file: Path | None = None,
        extra_config: str = "",
    ) -> None:
        """`port` 0: any free one. `max_queued` 0: no limit. The files and `extra_config` are for mosquitto only."""
        mosquitto = find_mosquitto()
        self.kind: Literal["mosquitto", "iotcore"] = kind or ("mosquitto" if mosquitto else "iotcore")
        if self.kind == "mosquitto" and mosquitto is None:
            raise BrokerError("mosquitto is not installed (looked on PATH and in /usr/sbin)")
        self._mosquitto = mosquitto or ""
        self.port = port
        self._persistence_dir = persistence_dir
        self._max_queued, self._max_inflight = max_queued, max_inflight
        self._password_file, self._acl_file, self._extra_config = password_file, acl_file, extra_config
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Process id of the broker; raises BrokerError when it is not running."""
        if self._process is None or self._process.returncode is not None:
            raise BrokerError("the broker is not running")
        return self._process.pid

    async def __aenter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="vagus-broker-")
        try:
            await self._start_on_a_free_port()
        except BaseException:
            self._folder.cleanup()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        self._folder.cleanup()

    async def start(self) -> None:
        """Start (again) on the same port and the same data, and return once it accepts connections."""
        folder = Path(self._folder.name)
        _check_free(self.port)
        if self.kind == "mosquitto":
            config = folder / "mosquitto.conf"
            config.write_text(self._mosquitto_config(folder))
            command = [self._mosquitto, "-c", str(config)]
        else:
            config = folder / "rumqttd.toml"
            config.write_text(self._rumqttd_config())
            command = [sys.executable, "-m", "iotcore", "--config", str(config), "--log-level", "CRITICAL"]
        with (folder / "broker.log").open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._accepting(self._process)
        except TimeoutError:
            await self.stop()
            raise BrokerError(f"{self.kind} did not listen on port {self.port} within {START_TIMEOUT_S:g} s") from None

    async def stop(self) -> None:
        """End it in good order (SIGTERM), or after a while in bad."""
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.terminate()
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await self._process.wait()
            except TimeoutError:
                await self.kill()
        self._process = None

    async def kill(self) -> None:
        """End it as a power cut would (SIGKILL)."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    def log_text(self) -> str:
        """What the broker has printed so far."""
        return (Path(self._folder.name) / "broker.log").read_text(errors="replace")

    async def _start_on_a_free_port(self) -> None:
        if self.port:
            await self.start()
            return
        for attempts_left in (2, 1, 0):
            self.port = _free_port()
            try:
                await self.start()
            except BrokerError:
                if not attempts_left:
                    raise
            else:
                return

    async def _accepting(self, process: asyncio.subprocess.Process) -> None:
        while True:
            if process.returncode is not None:
                lines = self.log_text().strip().splitlines()
                raise BrokerError(f"{self.kind} ended with {process.returncode}: {' | '.join(lines[-3:])}")
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            await writer.wait_closed()
            return

    def _mosquitto_config(self, folder: Path) -> str:
        data = self._persistence_dir or folder
        lines = [
            f"listener {self.port} 127.0.0.1",
            f"allow_anonymous {'false' if self._password_file else 'true'}",
            "persistence true",
            f"persistence_location {data}/",
            # By default mosquitto saves every 30 minutes: what it acknowledged before a power cut would be gone.
            "autosave_interval 1",
            "autosave_on_changes true",
            f"max_queued_messages {self._max_queued}",
            f"max_inflight_messages {self._max_inflight}",
            "set_tcp_nodelay true",
            "log_dest stderr",
            "log_type error",
            "log_type warning",
            "connection_messages false",
        ]
        if os.geteuid() == 0:
            lines.append("user root")  # else it changes to a user who may not write the data folder
        if self._password_file:
            lines.append(f"password_file {self._password_file}")
        if self._acl_file:
            lines.append(f"acl_file {self._acl_file}")
        return "\n".join(lines) + "\n" + self._extra_config

    def _rumqttd_config(self) -> str:
        return f"""id = 0

[router]
id = 0
max_connections = 1000
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10

[v4.1]
name = "loopback"
listen = "127.0.0.1:{self.port}"
next_connection_delay_ms = 1

[v4.1.connections]
connection_timeout_ms = 60000
max_payload_size = 1048576
max_inflight_count = 500
dynamic_filters = true
"""


def _check_free(port: int) -> None:
    """Raises BrokerError when somebody listens there: else we would take their answer for our broker's."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise BrokerError(f"port {port} cannot be used: {error.strerror}") from error


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
