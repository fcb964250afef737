"""Our own firmware's frames over the Nordic UART service, where a firmware has no service of its own.

A notification carries a whole frame bare, or a piece of a line as over a serial cable (COBS, a zero byte after each
frame). Which of the two a device does is seen from its frames: a CRC does not pass by chance. It is answered likewise.
"""

from __future__ import annotations

from cobs import cobs

from firmware_bridge.chunk import DecodeError
from firmware_bridge.frame import VERSION, Frame
from firmware_bridge.serial_line import LineReader

SERVICE = "6e400001-b5a3-f393-e0a9-e50e24dcca9e"
RX = "6e400002-b5a3-f393-e0a9-e50e24dcca9e"
"""Is written to: what the device receives."""
TX = "6e400003-b5a3-f393-e0a9-e50e24dcca9e"
"""Notifies: what the device transmits."""


class UartReader:
    """Puts together the frames of one connection."""

    def __init__(self) -> None:
        self._line = LineReader()
        self.is_bare = False
        """Whether the last frame came bare."""

    def push(self, notification: bytes) -> list[Frame | DecodeError]:
        """Frames completed by a notification, in order; in the place of a damaged one, the error that says why."""
        if notification[:1] == bytes([VERSION]):
            try:
                frame = Frame.from_bytes(notification)
            except DecodeError as error:
                if self.is_bare:
                    return [error]
            else:
                self.is_bare = True
                self._line = LineReader()
                return [frame]
        found = self._line.push(notification)
        if any(isinstance(one, Frame) for one in found):
            self.is_bare = False
        return found

    def wrapped(self, message: bytes) -> bytes:
        """A message to the device, as it speaks itself."""
        if self.is_bare:
            return message
        stuffed: bytes = cobs.encode(message)
        return stuffed + b"\0"
