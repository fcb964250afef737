"""From a payload of a configured device to its chunks; what cannot be read is counted, sampled to the log, dropped."""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from agent.uplink.topics import parse_input_topic
from firmware_bridge.chunk import Chunk, DecodeError, Stream
from firmware_bridge.codecs import decode

log = logging.getLogger(__name__)

MAX_DEVICES = 256
MAX_REASONS = 16
"""Per device. Both bound what a babbling sender can make the agent remember."""
OTHERS = "(others)"
LOG_EVERY = 1000
_QUOTED = re.compile(r"""'[^']*'|"[^"]*\"""")
UNKNOWN_DEVICE = "unknown device or channel"


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """What the configuration says about one device's channel."""

    stream: Stream
    format: str = "auto"
    """One of firmware_bridge.codecs.FORMATS."""


class Decoder:
    """Payloads of configured streams, by (device, channel)."""

    def __init__(self, streams: Mapping[tuple[str, str], StreamConfig]) -> None:
        self._streams = streams
        self._devices = {device for device, _ in streams}
        self._rejected: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.unreadable = 0
        """Payloads that could not be read, or not all of it."""

    def rejected(self) -> dict[str, dict[str, int]]:
        """How many payloads could not be read: device → reason → count."""
        return {device: dict(reasons) for device, reasons in self._rejected.items()}

    def stream_of(self, topic: str) -> Stream | None:
        """What a topic carries; None where nothing is configured."""
        place = parse_input_topic(topic)
        config = self._streams.get(place) if place is not None else None
        return None if config is None else config.stream

    def decode(self, topic: str, content_type: str | None, payload: bytes) -> tuple[Chunk, ...]:
        """The chunks of a payload, live or from the journal; what cannot be read is counted, and left out."""
        place = parse_input_topic(topic)
        config = self._streams.get(place) if place is not None else None
        if config is None:
            self._reject(topic if place is None else place[0], UNKNOWN_DEVICE)
            return ()
        try:
            return tuple(decode(payload, config.stream, content_type, config.format))
        except DecodeError as error:
            self._reject(config.stream.device, str(error))
            return error.chunks

    def _reject(self, device: str, reason: str) -> None:
        """Count; log the first of each kind and then every LOG_EVERYth, without anything quoted from the payload."""
        self.unreadable += 1
        reason = _QUOTED.sub("…", reason)
        name = device[:64]
        if name not in self._rejected and name not in self._devices and len(self._rejected) >= MAX_DEVICES:
            name = OTHERS
        kind = re.sub(r"\d+", "#", reason)[:120]
        reasons = self._rejected[name]
        if kind not in reasons and len(reasons) >= MAX_REASONS:
            kind = OTHERS
        reasons[kind] += 1
        if reasons[kind] % LOG_EVERY == 1:
            log.warning("device %r: %s (%d so far); dropped", name, reason[:200], reasons[kind])
