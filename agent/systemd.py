"""What this process says to the service manager that started it: sd_notify(3), by datagrams to $NOTIFY_SOCKET.

Where nobody asks, nothing is said. The watchdog is fed while the pipeline gets on: an agent that has nothing to do
ticks all the same, one whose worker hangs on a disk does not and is started again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence

from agent.progress import STALLED_S, Progress

log = logging.getLogger(__name__)

FEEDS_A_WATCHDOG = 4
"""So often within its time, so that a late one is none that is missing."""
STALLED_OF_WATCHDOG = 2 / 3
"""No tick for this part of the watchdog's time is a stall: a slow disk is given time with WatchdogSec."""
STATUS_S = 10.0


class ServiceManager:
    """Of one process; `environ` is what the manager gave it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "").replace("@", "\0", 1)
        self.watchdog_s = _watchdog_s(environ)
        """Who is silent for longer is started again; None: nobody minds."""
        self._status, self._is_ready = "", False

    def ready(self) -> None:
        """All that is needed to decide is there; said once."""
        if not self._is_ready:
            self._is_ready = True
            self._say("READY=1")

    def stopping(self) -> None:
        self._say("STOPPING=1")

    def status(self, words: str) -> None:
        """One line for `systemctl status`."""
        if words != self._status:
            self._status = words
            self._say(f"STATUS={words.replace(chr(10), ' ')}")

    def alive(self) -> None:
        self._say("WATCHDOG=1")

    async def run(self, progress: Progress, words: Callable[[], str]) -> None:
        """Feed the watchdog as long as `progress` is made, and say how it goes. Until cancelled."""
        if not self._address:
            return
        stalled_s = STALLED_S if self.watchdog_s is None else self.watchdog_s * STALLED_OF_WATCHDOG
        pause_s = STATUS_S if self.watchdog_s is None else self.watchdog_s / FEEDS_A_WATCHDOG
        while True:
            if progress.since_s > stalled_s:
                self.status(f"stalled: no tick for {progress.since_s:.0f} s")
            else:
                self.status(words())
                self.alive()
            await asyncio.sleep(pause_s)

    def _say(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
                sock.sendto(message.encode(), self._address)
        except OSError as error:  # a manager that does not listen must not end the watching
            log.warning("the service manager cannot be told %s: %s", message, error)


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    """What the manager asked for, if it asked this process."""
    asked_us, asked_of = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", str(os.getpid()))
    is_asked = asked_us.isdigit() and int(asked_us) > 0 and asked_of == str(os.getpid())
    return int(asked_us) / 1e6 if is_asked else None


def in_words(patients: int, reasons: Sequence[str]) -> str:
    """What `systemctl status` shows of an agent."""
    return f"watching {patients}" + (f", but {'; '.join(reasons)}" if reasons else "")
