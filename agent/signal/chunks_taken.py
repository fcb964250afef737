"""Which of a stream's chunks were taken last: what a broker delivers again is told from a clock set back."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from firmware_bridge.chunk import Chunk

REMEMBERED_CHUNKS = 256
_BITS_63 = (1 << 63) - 1


def _numbers() -> array[int]:
    return array("q")


@dataclass(slots=True)
class ChunksTaken:
    """Boot ids and starts of the last REMEMBERED_CHUNKS, 16 bytes each."""

    _boot_ids: array[int] = field(default_factory=_numbers)
    _starts_ns: array[int] = field(default_factory=_numbers)
    _newest_ns: int = -(1 << 63)
    """No start that was ever taken is later: hardly ever has one to be looked for."""

    def add(self, chunk: Chunk) -> None:
        """Remember it, and forget the oldest of many."""
        if len(self._starts_ns) == REMEMBERED_CHUNKS:
            del self._boot_ids[0], self._starts_ns[0]
        self._boot_ids.append(chunk.boot_id & _BITS_63)
        self._starts_ns.append(chunk.t0_ns)
        self._newest_ns = max(self._newest_ns, chunk.t0_ns)

    def __contains__(self, chunk: Chunk) -> bool:
        t0_ns, boot_id = chunk.t0_ns, chunk.boot_id & _BITS_63
        if t0_ns > self._newest_ns:
            return False
        return any(at == t0_ns and of == boot_id for at, of in zip(self._starts_ns, self._boot_ids, strict=True))
