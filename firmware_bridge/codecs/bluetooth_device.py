"""Battery Level (0x2A19) and the texts of Device Information (0x2A29 maker, 0x2A24 model, 0x2A26 firmware)."""

from __future__ import annotations

from dataclasses import dataclass

from firmware_bridge.chunk import DecodeError
from firmware_bridge.codecs.bluetooth_bytes import ByteReader, check_range

MAX_TEXT_BYTES = 512
"""The longest value that a characteristic can have."""


@dataclass(frozen=True, slots=True)
class BatteryLevel:
    """How full the battery is."""

    percent: int

    def __post_init__(self) -> None:
        check_range("battery level", self.percent, 0, 100, 0)

    def __bytes__(self) -> bytes:
        return bytes([self.percent])

    @classmethod
    def from_bytes(cls, data: bytes) -> BatteryLevel:
        """The level that `data`, all of it, is; raises DecodeError."""
        reader = ByteReader(data)
        level = cls(reader.unsigned(1, "battery level"))
        reader.finish("the level")
        return level


@dataclass(frozen=True, slots=True)
class DeviceText:
    """A text that a device has about itself, as sent."""

    sent: str

    def __post_init__(self) -> None:
        if len(self.sent.encode()) > MAX_TEXT_BYTES:
            raise DecodeError(f"a text of more than {MAX_TEXT_BYTES} bytes", MAX_TEXT_BYTES)

    @property
    def text(self) -> str:
        """What a person may be shown: without the zero bytes and blanks that pad it, nor anything unprintable."""
        padded = self.sent.partition("\0")[0].strip()
        return "".join(character if character.isprintable() else "?" for character in padded)

    def __bytes__(self) -> bytes:
        return self.sent.encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> DeviceText:
        """The text that `data`, all of it, is; raises DecodeError."""
        try:
            return cls(data.decode())
        except UnicodeDecodeError as error:
            raise DecodeError(f"not UTF-8: {error.reason}", error.start) from None
