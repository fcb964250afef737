"""One worker, kept alive: started, listened to, and started again with a budget when it dies."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any, Literal

from agent.uplink.messages import StatusMessage
from agent.workers.budget import RestartBudget
from agent.workers.talk import Orders, streams_of

log = logging.getLogger(__name__)

HANG_S = 120.0
"""A worker that runs and says nothing for so long hangs, and is killed. It speaks every five seconds."""
STOP_S = 20.0
"""So long an orderly stop may take."""

State = Literal["starting", "running", "down", "stopped"]


class Keeper:
    """Of one worker. `changed` is called when what it says, or whether it lives, has changed."""

    def __init__(self, orders: Orders, changed: Callable[[], None]) -> None:
        self.number = orders.worker
        self._orders, self._changed = orders, changed
        self._budget = RestartBudget()
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._is_hanging = False
        self.state: State = "starting"
        self.deaths = 0
        self.trouble = ""
        """Since when it died and until it watches again: why it does not."""
        self.status: StatusMessage | None = None
        """What it said last of itself."""
        self.stands: dict[str, str] | None = None
        """Alarms on the agent that it sees: rule → text; None before it has said so."""
        self.numbers: dict[str, float] = {}

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def run(self) -> None:
        """Until `stop`, or cancelled: then the process is killed."""
        while not self._stopping:
            self.state = "starting"
            try:
                ended = await self._live()
            except OSError as error:
                ended = f"cannot be started: {error}"
            if self._stopping:
                break
            self.deaths += 1
            pause_s = self._budget.died(asyncio.get_running_loop().time())
            self.state, self.trouble = "down", ended
            log.error("worker %d %s; started again in %g s", self.number, ended, pause_s)
            self._changed()
            await asyncio.sleep(pause_s)
        self.state = "stopped"

    async def once(self) -> int:
        """Its one life; the exit status."""
        await self._live()
        assert self._process is not None  # noqa: S101 (it has just ended)
        return self._process.returncode or 0

    async def stop(self) -> None:
        """In good order, or else not."""
        self._stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                await process.wait()
        except TimeoutError:
            log.warning("worker %d does not stop: killed", self.number)
            process.kill()

    async def _live(self) -> str:
        """One life of the process, from its start to its end, and how that came."""
        ours, theirs = socket.socketpair()
        self._is_hanging = False
        with theirs:
            try:
                self._process = process = await self._start(theirs.fileno())
            except OSError:
                ours.close()
                raise
        reader, writer = await streams_of(ours)
        writer.write(self._orders.line())
        listening = asyncio.create_task(self._listen(reader), name=f"worker {self.number}")
        try:
            await process.wait()
            await listening
        finally:
            listening.cancel()
            writer.close()
            if process.returncode is None:
                process.kill()
                await process.wait()
        if self._is_hanging:
            return f"said nothing for {HANG_S:g} s and was killed"
        return _how(process.returncode)

    async def _start(self, descriptor: int) -> asyncio.subprocess.Process:
        """Raises OSError."""
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "agent.workers.child", str(descriptor)),
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=(descriptor,),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(place for place in sys.path if place)},
        )

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while True:
            try:
                async with asyncio.timeout(HANG_S if self.state == "running" else None):
                    line = await reader.readline()
            except TimeoutError:
                self._is_hanging = True
                if self._process is not None:
                    self._process.kill()
                return
            except (OSError, ValueError):  # of a process that was killed in the middle of a line
                return
            if not line.endswith(b"\n"):
                return
            try:
                self._hear(json.loads(line))
            except ValueError as error:  # of another version, after an update beneath a running agent
                log.warning("worker %d says what cannot be read: %s", self.number, str(error).splitlines()[0])

    def _hear(self, said: dict[str, Any]) -> None:
        match said:
            case {"stand": stands}:
                self.stands = stands
            case {"status": status}:
                self.status = StatusMessage.model_validate(status)
                self.state, self.trouble = "running", ""
            case {"alive": numbers}:
                self.numbers = numbers
                return
            case _:
                return
        self._changed()


def _how(returncode: int | None) -> str:
    if returncode is not None and returncode < 0:
        try:
            return f"was killed ({signal.Signals(-returncode).name})"
        except ValueError:
            return f"was killed (signal {-returncode})"
    return f"ended with exit status {returncode}"
