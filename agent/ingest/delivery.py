"""What a source that decodes for itself hands on: the chunk, and the payload from which a restart makes it again."""

from __future__ import annotations

from agent.ingest.source import Delivery
from agent.uplink.topics import input_topic
from firmware_bridge.chunk import Chunk
from firmware_bridge.codecs import cbor_chunk

CONTENT_TYPE = "application/cbor"


def delivery_of(chunk: Chunk, received_ns: int) -> Delivery:
    """One chunk of a configured stream, as if it had been published by its device; nobody waits for its `ack`.

    The agent's Decoder makes the very same chunk of the payload.
    """
    return Delivery(
        chunks=(chunk,),
        topic=input_topic(chunk.stream.device, chunk.stream.channel),
        content_type=CONTENT_TYPE,
        payload=cbor_chunk.encode(chunk),
        received_ns=received_ns,
        ack=_nobody_waits,
    )


def _nobody_waits() -> None: ...
