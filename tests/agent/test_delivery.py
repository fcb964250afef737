"""A chunk handed on by a source is, after a restart, read again from the journal as it was."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.ingest.decoder import Decoder, StreamConfig
from agent.ingest.delivery import delivery_of
from firmware_bridge.chunk import CANONICAL_UNIT, Chunk, Stream
from firmware_bridge.codecs import FORMATS
from firmware_bridge.plausible import EARLIEST_NS, LATEST_NS, PLAUSIBLE_RANGE, SPOT_KINDS

STREAMS = [
    Stream("p1", "d1", "s", kind, unit, 0.0 if kind in SPOT_KINDS else 130.0, columns, 300.0 * (kind in SPOT_KINDS))
    for kind, unit in CANONICAL_UNIT.items()
    for columns in (("",), ("x", "y", "z"))
]


@given(st.data())
def test_the_journal_gives_the_same_chunk_again(data: st.DataObject) -> None:
    stream = data.draw(st.sampled_from(STREAMS))
    low, high = PLAUSIBLE_RANGE[stream.kind]
    shape = (data.draw(st.integers(1, 200)) if stream.rate_hz else 1, len(stream.channels))
    samples = np.random.default_rng(data.draw(st.integers(0, 99))).uniform(low, high, shape).astype(np.float32)
    seq, boot_id = data.draw(st.none() | st.integers(0, 0xFFFF_FFFF)), data.draw(st.integers(0, 0xFFFF))
    chunk = Chunk(stream, data.draw(st.integers(EARLIEST_NS, LATEST_NS - 1)), samples, seq, boot_id)
    decoder = Decoder({(stream.device, stream.channel): StreamConfig(stream, data.draw(st.sampled_from(FORMATS)))})

    delivery = delivery_of(chunk, 7)

    assert delivery.chunks == (chunk,)
    (again,) = decoder.decode(delivery.topic, delivery.content_type, delivery.payload)
    assert (again.stream, again.t0_ns, again.seq, again.boot_id) == (stream, chunk.t0_ns, seq, boot_id)
    assert again.samples.tobytes() == samples.tobytes()


def test_nobody_waits_for_it() -> None:
    chunk = Chunk(STREAMS[0], EARLIEST_NS, np.zeros((1, 1), np.float32))
    delivery = delivery_of(chunk, 7)
    delivery.ack()
    assert delivery.received_ns == 7


def test_a_device_that_cannot_be_in_a_topic_is_refused() -> None:
    stream = Stream("p1", "a/b", "s", "ecg", "mV", 130.0)
    with pytest.raises(ValueError, match="level of a topic"):
        delivery_of(Chunk(stream, EARLIEST_NS, np.zeros((1, 1), np.float32)), 7)
