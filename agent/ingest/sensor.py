"""A sensor made of software: a recording or a simulated patient, published over MQTT as a wearable would."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from agent.ingest.delivery import CONTENT_TYPE
from agent.ingest.replay import EPOCH_NS, paced, record_chunks, record_streams, sample_ns
from agent.ingest.wfdb import read_header
from agent.mqtt import MqttConnection, NotConnected
from agent.uplink.topics import input_topic
from firmware_bridge.chunk import Chunk
from firmware_bridge.codecs import cbor_chunk


async def publish_chunks(connection: MqttConnection, chunks: Iterable[Chunk], *, speed: float | None = 1.0) -> int:
    """Be the sensor: publish every chunk over MQTT at QoS 1, again where the connection was lost; how many there were.

    Raises PublishRefused where the broker does not let this client write to the sensor's topic.
    """
    count = 0
    async for chunk in paced(chunks, speed):
        topic = input_topic(chunk.stream.device, chunk.stream.channel)
        payload = cbor_chunk.encode(chunk)
        while True:
            await connection.wait_connected()
            try:
                await connection.publish(topic, payload, content_type=CONTENT_TYPE)
            except NotConnected:
                continue
            break
        count += 1
    return count


async def publish_record(
    connection: MqttConnection,
    path: Path | str,
    *,
    patient: str | None = None,
    device: str = "replay",
    speed: float | None = 1.0,
    chunk_s: float = 1.0,
    start_s: float = 0.0,
    stop_s: float | None = None,
    as_if_now: bool = False,
) -> int:
    """Publish the ECG of a record; `as_if_now` lets its stretch begin at this moment instead of at EPOCH_NS.

    At a speed above 1 such a stretch runs ahead of the clock. Raises as `record_chunks` and `publish_chunks` do.
    """
    header = read_header(path)
    stream = record_streams(header, patient, device).get("ecg")
    start_ns = time.time_ns() - sample_ns(round(start_s * header.rate_hz), header.rate_hz)
    chunks = record_chunks(
        path, stream, chunk_s=chunk_s, start_s=start_s, stop_s=stop_s, t0_ns=start_ns if as_if_now else EPOCH_NS
    )
    return await publish_chunks(connection, chunks, speed=speed)
