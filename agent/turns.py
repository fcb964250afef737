"""The order within a tick."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import zip_longest

from firmware_bridge.chunk import Chunk


def turns(chunks: Iterable[Chunk]) -> Iterator[list[Chunk]]:
    """One chunk of each patient at a time, in the order in which they came: what one sensor says of somebody may
    depend on what another has said by then."""
    waiting: dict[str, list[Chunk]] = defaultdict(list)
    for chunk in chunks:
        waiting[chunk.stream.patient].append(chunk)
    for turn in zip_longest(*waiting.values()):
        yield [chunk for chunk in turn if chunk is not None]
