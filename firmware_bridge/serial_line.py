"""Frames and requests over a serial line: COBS, each ended by a zero byte. MQTT and BLE carry them bare."""

from __future__ import annotations

from cobs import cobs

from firmware_bridge.chunk import DecodeError
from firmware_bridge.frame import Frame
from firmware_bridge.resend import ResendRequest

MAX_FRAME_BYTES = 1 << 16


def to_line(message: Frame | ResendRequest) -> bytes:
    """The bytes that carry a frame, or a request, over a serial line, delimiter included."""
    stuffed: bytes = cobs.encode(bytes(message))
    return stuffed + b"\0"


class LineReader:
    """Cuts what a serial line delivers into frames, however it was torn."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._overrun = False

    def push(self, data: bytes) -> list[Frame | DecodeError]:
        """Frames completed by `data`, in order; in the place of a damaged one, the error that says why.

        Empty frames (delimiters sent to resynchronise) are skipped. No more than MAX_FRAME_BYTES are ever held.
        """
        out: list[Frame | DecodeError] = []
        *ended, rest = data.split(b"\0")
        for piece in ended:
            self._hold(piece)
            if self._overrun:
                out.append(DecodeError(f"no delimiter in {MAX_FRAME_BYTES} bytes"))
            elif self._held:
                out.append(_unstuff(bytes(self._held)))
            self._held.clear()
            self._overrun = False
        self._hold(rest)
        return out

    def _hold(self, piece: bytes) -> None:
        if len(self._held) + len(piece) > MAX_FRAME_BYTES:
            self._overrun = True
            self._held.clear()
        if not self._overrun:
            self._held += piece


def _unstuff(line: bytes) -> Frame | DecodeError:
    try:
        return Frame.from_bytes(cobs.decode(line))
    except cobs.DecodeError as error:
        return DecodeError(f"not COBS: {error}")
    except DecodeError as error:
        return error
