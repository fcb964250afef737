"""A device with our own firmware behind a real terminal device of this machine: plugged in, pulled out, asked again."""

from __future__ import annotations

import asyncio
import os
import tty
from collections.abc import Iterable
from pathlib import Path

from cobs import cobs

from firmware_bridge.chunk import Chunk, DecodeError
from firmware_bridge.frame import Frame, FrameFlag, SampleFormat
from firmware_bridge.resend import ResendRequest
from firmware_bridge.serial_line import to_line


class SerialDevice:
    """A device whose port is the file `link`. What it is asked for it sends again, as long as it has it."""

    def __init__(self, link: Path, *, kept: int = 8) -> None:
        self.link, self._kept = link, kept
        self._master = self._slave = -1
        self._sent: dict[tuple[int, int, int], bytes] = {}
        self._told = b""
        self.asked: asyncio.Queue[ResendRequest] = asyncio.Queue()
        self.opened = asyncio.Event()
        """Set where a host has opened the port and said so with a delimiter."""

    def plug_in(self) -> None:
        """The port appears, under another number each time, as behind a link of /dev/serial/by-id."""
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.link.symlink_to(os.ttyname(self._slave))
        asyncio.get_running_loop().add_reader(self._master, self._read)

    def pull_out(self) -> None:
        asyncio.get_running_loop().remove_reader(self._master)
        self.link.unlink()
        os.close(self._master)
        os.close(self._slave)
        self._master = self._slave = -1

    def close(self) -> None:
        if self._master >= 0:
            self.pull_out()

    async def write(self, data: bytes) -> None:
        """Onto the wire, as it takes it."""
        while data:
            try:
                data = data[os.write(self._master, data) :]
            except BlockingIOError:
                await asyncio.sleep(0.001)

    async def send(self, *frames: Frame) -> None:
        for frame in frames:
            self.make(frame)
            await self.write(to_line(frame))

    def make(self, *frames: Frame) -> None:
        """Have these frames, as if they had been sent and were lost."""
        for frame in frames:
            self._sent[frame.stream_id, frame.boot_id, frame.sequence] = to_line(frame)
            while len(self._sent) > self._kept:
                del self._sent[next(iter(self._sent))]

    def _read(self) -> None:
        *lines, self._told = (self._told + os.read(self._master, 4096)).split(b"\0")
        if b"" in lines:
            self.opened.set()
        for line in filter(None, lines):
            try:
                request = ResendRequest.from_bytes(cobs.decode(line))
            except (DecodeError, cobs.DecodeError):
                continue
            self.asked.put_nowait(request)
            for sequence in range(request.first, request.first + request.count):
                again = self._sent.get((request.stream_id, request.boot_id, sequence), b"")
                if again:
                    os.write(self._master, again)


def frames_of(chunks: Iterable[Chunk], *, stream_id: int = 3, boot_id: int = 1) -> list[Frame]:
    """UTC frames with the samples and the sequence of the chunks, bit for bit."""
    return [
        Frame(
            stream_id, FrameFlag.UTC, SampleFormat.FLOAT32, len(chunk.stream.channels), chunk.stream.unit, boot_id,
            chunk.t0_ns // 1000, chunk.seq or 0, round(chunk.stream.rate_hz * 1000), 1.0,
            chunk.samples.astype("<f4").tobytes(),
        )
        for chunk in chunks
    ]  # fmt: skip
