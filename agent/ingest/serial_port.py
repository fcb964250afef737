"""One serial port with a device of our own firmware behind it: opened, listened to, asked again, opened anew."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.ingest.ble_watchdog import patience_s
from agent.ingest.device_status import DeviceState, DeviceStatus
from firmware_bridge.chunk import Chunk, DecodeError, Stream
from firmware_bridge.clock import Arrival
from firmware_bridge.frame import Frame
from firmware_bridge.frame_receiver import FrameReceiver, Received
from firmware_bridge.serial_line import LineReader, to_line

if TYPE_CHECKING:
    import serial

log = logging.getLogger(__name__)

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 5.0
READ_BYTES = 1 << 16
UNREADABLE_LINES = 50
"""So many and no frame among them: the speed is wrong, or it is another device."""
LOG_EVERY = 1000
INSTALL = "pyserial is not installed: pip install 'vagus[serial]'"


class PortError(Exception):
    """The port cannot be opened: it is not there ("searching"), or somebody has to see to it ("refused")."""

    def __init__(self, state: DeviceState, message: str) -> None:
        self.state = state
        super().__init__(message)


class SerialPort:
    """A port of the config, for the life of the process."""

    def __init__(
        self,
        pattern: str,
        baud: int,
        streams: Mapping[int, Stream],
        arrival: Callable[[], Arrival],
        deliver: Callable[[Chunk], None],
    ) -> None:
        """`streams`: by the device's ids. `arrival`: when now is; `deliver`: where the chunks go."""
        self._pattern, self._baud, self._streams = pattern, baud, streams
        self._arrival, self._deliver = arrival, deliver
        self._receiver = FrameReceiver(streams)
        self._visit: _Visit | None = None
        self._is_gibberish = False
        self._state: DeviceState = "searching"
        self._words = f"{pattern} has not been opened yet"
        self._counts: Counter[str] = Counter()

    @property
    def devices(self) -> Sequence[tuple[str, str]]:
        """(patient, device) of all that come by this port."""
        return tuple(dict.fromkeys((stream.patient, stream.device) for stream in self._streams.values()))

    @property
    def refusal(self) -> str:
        """Why the port cannot be used though it is there; empty where it can."""
        return self._words if self._state == "refused" else ""

    def status(self, now_s: float) -> list[DeviceStatus]:
        """Of each device; `now_s` is the event loop's time. May be called from another thread."""
        visit, state, words = self._visit, self._state, self._words
        if visit is not None and visit.frames:
            state, words = "connected", "it sends"
        return [
            DeviceStatus(*one, state, words, trouble=self._trouble(one, visit, now_s), counts=dict(self._counts))
            for one in self.devices
        ]

    def _trouble(self, device: tuple[str, str], visit: _Visit | None, now_s: float) -> str:
        if self._is_gibberish or (visit is not None and visit.is_gibberish):
            return f"what comes by {self._pattern} cannot be read: is {self._baud} the baud that its firmware has?"
        if visit is None or not visit.frames:
            return ""
        own = {number for number, one in self._streams.items() if (one.patient, one.device) == device}
        refused = [why for number, why in list(visit.refused.items()) if number in own]
        silent = [self._streams[number].channel for number in visit.silent(now_s) if number in own]
        if refused or not silent:
            return "; ".join(refused)
        sent = ", ".join(map(str, sorted(visit.sent)))
        return f"it sends, but no {' and no '.join(silent)}: its streams have the numbers {sent}"

    async def run(self) -> None:
        """Listen until cancelled; a port that is not there is tried again, at most LONGEST_WAIT_S apart."""
        loop = asyncio.get_running_loop()
        wait_s = FIRST_WAIT_S
        while True:
            try:
                port = open_port(find_port(self._pattern), self._baud)
            except PortError as error:
                self._say(error.state, str(error))
            else:
                self._counts["openings"] += 1
                self._say("connecting", f"{port.name} is open, and nothing has come by it yet")
                self._visit = visit = _Visit(port, self._streams, self._hear, self._counts, loop.time())
                try:
                    self._say("searching", await visit.listen())
                except OSError as error:
                    self._say("searching", f"{port.name} cannot be listened to: {error}")
                finally:
                    self._is_gibberish, self._visit = visit.is_gibberish, None
                    close_port(port)
                if visit.frames:
                    wait_s = FIRST_WAIT_S
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _hear(self, frame: Frame) -> Received:
        received = self._receiver.push(frame, self._arrival())
        for chunk in received.chunks:
            self._deliver(chunk)
        return received

    def _say(self, state: DeviceState, words: str) -> None:
        if (state, words) != (self._state, self._words):
            log.log(logging.WARNING if state == "refused" else logging.INFO, "%s: %s", self._pattern, words)
        self._state, self._words = state, words


class _Visit:
    """From one opening of the port to its end."""

    def __init__(
        self,
        port: serial.Serial,
        streams: Mapping[int, Stream],
        hear: Callable[[Frame], Received],
        counts: Counter[str],
        now_s: float,
    ) -> None:
        self._port, self._hear, self._counts = port, hear, counts
        self._descriptor = port.fileno()
        self._lines = LineReader()
        self._is_first_line = True
        self._patience_s = min(map(patience_s, streams.values()))
        self._heard_s = now_s
        self._waveforms = {number: (patience_s(one), now_s) for number, one in streams.items() if one.rate_hz}
        self.frames = self.malformed = 0
        self.sent: set[int] = set()
        """The numbers of the streams that come, wanted or not."""
        self.refused: dict[int, str] = {}
        """Why the latest frame of a stream could not be taken."""

    @property
    def is_gibberish(self) -> bool:
        return not self.frames and self.malformed >= UNREADABLE_LINES

    def silent(self, now_s: float) -> list[int]:
        """Waveforms that do not come; single readings need not: a sensor without a finger in it has none."""
        return [number for number, (patience, last_s) in self._waveforms.items() if now_s - last_s > patience]

    async def listen(self) -> str:
        """Until the port goes away or falls silent; returns which, in words."""
        loop = asyncio.get_running_loop()
        over: asyncio.Future[str] = loop.create_future()
        loop.add_reader(self._descriptor, self._readable, over)
        try:
            self._write(b"\0", over)  # whatever the device has held of a line so far ends here
            while not over.done():
                due_s = self._heard_s + self._patience_s
                if loop.time() >= due_s:
                    self._counts["silences"] += 1
                    return f"{self._port.name} is open, yet nothing came by it for {self._patience_s:.0f} s"
                await asyncio.wait({over}, timeout=due_s - loop.time())
            return over.result()
        finally:
            loop.remove_reader(self._descriptor)

    def _readable(self, over: asyncio.Future[str]) -> None:
        """Called by the event loop."""
        try:
            data = self._port.read(READ_BYTES)
        except Exception as error:  # of whatever kind: what cannot be read is closed
            asyncio.get_running_loop().remove_reader(self._descriptor)
            _end(over, f"{self._port.name} went away: {error}")
            return
        for said in self._lines.push(data):
            try:
                self._take(said, over)
            except Exception:
                self._counts["faults"] += 1
                if self._counts["faults"] % LOG_EVERY == 1:
                    log.exception("%s: fault in what reads it", self._port.name)
            self._is_first_line = False

    def _take(self, said: Frame | DecodeError, over: asyncio.Future[str]) -> None:
        if isinstance(said, DecodeError):
            if self._is_first_line:
                self._counts["torn at opening"] += 1
            else:
                self.malformed += 1
                self._malformed(said)
            return
        self.frames += 1
        self._heard_s = asyncio.get_running_loop().time()
        number = said.stream_id
        self.sent.add(number)
        received = self._hear(said)
        if received.chunks:
            self.refused.pop(number, None)
            if number in self._waveforms:
                self._waveforms[number] = (self._waveforms[number][0], self._heard_s)
        for request in received.requests:
            self._counts["frames asked for again"] += request.count
            self._write(to_line(request), over)
        for error in received.refused:
            self.refused[number] = str(error)
            self._malformed(error)
        self._counts.update(received.dropped)

    def _malformed(self, error: DecodeError) -> None:
        self._counts["malformed"] += 1
        if self._counts["malformed"] % LOG_EVERY == 1:
            log.warning("%s: %s (%d so far); dropped", self._port.name, error, self._counts["malformed"])

    def _write(self, data: bytes, over: asyncio.Future[str]) -> None:
        """As much as there is room for; what is cut short is noise to the device."""
        try:
            self._port.write(data)
        except Exception as error:
            _end(over, f"{self._port.name} went away: {error}")


def _end(over: asyncio.Future[str], words: str) -> None:
    if not over.done():
        over.set_result(words)


def find_port(pattern: str) -> str:
    """The one device file that is meant; raises PortError."""
    if not any(mark in pattern for mark in "*?["):
        return pattern
    fitting = sorted(str(path) for path in Path("/").glob(pattern.lstrip("/")))
    if not fitting:
        raise PortError("searching", f"no port fits {pattern}: the device is not plugged in, or is called otherwise")
    if len({Path(path).resolve() for path in fitting}) > 1:
        raise PortError("refused", f"{len(fitting)} ports fit {pattern}: write one of {', '.join(fitting)}")
    return fitting[0]


def open_port(path: str, baud: int) -> serial.Serial:
    """The port, for nobody else, with reads and writes that never wait; raises PortError."""
    serial = _pyserial()
    try:
        return serial.Serial(path, baud, timeout=0, write_timeout=0, exclusive=True)
    except Exception as error:  # OSError, ValueError or termios.error, which is neither
        raise _explained(path, error) from error


def close_port(port: serial.Serial) -> None:
    """Without waiting for a device that takes nothing more."""
    with suppress(Exception):
        port.reset_output_buffer()
    port.close()


def _pyserial() -> Any:
    try:
        import serial  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise PortError("refused", INSTALL) from error
    return serial


def _explained(path: str, error: Exception) -> PortError:
    match getattr(error, "errno", None):
        case errno.ENOENT | errno.ENXIO | errno.ENODEV | errno.EIO:
            return PortError("searching", f"{path} is not there: the device is not plugged in, or is called otherwise")
        case errno.EACCES | errno.EPERM:
            return PortError("refused", f"{path} may not be read by this user: see `vagus doctor`")
        case errno.EBUSY | errno.EAGAIN:
            return PortError("refused", f"another program has {path}: see `vagus doctor`")
    return PortError("refused", f"{path} cannot be opened: {error}")
