"""A chunk as a JSON object, for devices and scripts that have nothing better. Keys: see `chunk_map`."""

from __future__ import annotations

import json

from firmware_bridge.chunk import Chunk, Stream
from firmware_bridge.codecs.chunk_map import chunk_from_map, map_from_chunk
from firmware_bridge.codecs.fields import load_json, mapping, plain_number, sample_rows


def decode(payload: bytes, stream: Stream) -> list[Chunk]:
    """The one chunk the payload is; raises DecodeError."""
    return decode_document(load_json(payload), stream)


def decode_document(document: object, stream: Stream) -> list[Chunk]:
    """As `decode`, from parsed JSON."""
    fields = mapping(document, "payload")
    return [chunk_from_map(fields, sample_rows(fields.get("samples"), len(stream.channels)), stream)]


def encode(chunk: Chunk) -> bytes:
    """The chunk as compact JSON whose numbers read back as the same float32."""
    rows = [[plain_number(value) for value in row] for row in chunk.samples]
    samples = rows if len(chunk.stream.channels) > 1 else [row[0] for row in rows]
    return json.dumps(map_from_chunk(chunk) | {"samples": samples}, separators=(",", ":")).encode()


def recognizes(document: object) -> bool:
    """Whether parsed JSON looks like a chunk."""
    return isinstance(document, dict) and "samples" in document
