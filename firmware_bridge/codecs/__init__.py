"""What a sensor may publish, and who reads it. A codec is one file here and one line in CODECS.

Which one reads a payload: its MQTT content type where that is known; else the format configured; else its looks, in the
order of CODECS. `application/json` names three formats: of these the configured one, or else the looks decide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from firmware_bridge import frame
from firmware_bridge.chunk import Chunk, DecodeError, Stream
from firmware_bridge.codecs import cbor_chunk, json_chunk, nightscout, senml
from firmware_bridge.codecs.fields import check_size, load_json


@dataclass(frozen=True, slots=True)
class Codec:
    """One format: bytes or parsed JSON in, chunks out."""

    format: str
    content_types: tuple[str, ...]
    reads_json: bool
    """Whether `recognizes` and `decode` take parsed JSON instead of bytes."""
    recognizes: Callable[[Any], bool]
    decode: Callable[[Any, Stream], list[Chunk]]


_JSON = "application/json"

CODECS = (
    Codec("frame", ("application/vnd.vagus.frame",), False, lambda payload: payload[0] == frame.VERSION, frame.decode),
    Codec("cbor", ("application/cbor",), False, cbor_chunk.recognizes, cbor_chunk.decode),
    Codec("json", (_JSON,), True, json_chunk.recognizes, json_chunk.decode_document),
    Codec("nightscout", (_JSON,), True, nightscout.recognizes, nightscout.decode_document),
    Codec("senml", ("application/senml+json", _JSON), True, senml.recognizes, senml.decode_document),
)

FORMATS: tuple[str, ...] = ("auto", *(codec.format for codec in CODECS))
"""What a configuration may say; "auto" goes by content type and looks."""


def decode(
    payload: bytes,
    stream: Stream,
    content_type: str | None = None,
    format: str = "auto",  # noqa: A002 - the configuration's word
) -> list[Chunk]:
    """The chunks a payload holds for `stream`, oldest first, in its unit.

    `content_type` is MQTT v5's, parameters and all.
    Raises DecodeError and nothing else, whatever the bytes, holding the chunks that could be read all the same;
    ValueError for a `format` that is not one of FORMATS.
    """
    if format not in FORMATS:
        raise ValueError(f"format {format!r} is not one of {', '.join(FORMATS)}")
    check_size(payload)
    candidates = _candidates(content_type, format)
    if len(candidates) == 1:
        codec = candidates[0]
        return codec.decode(load_json(payload) if codec.reads_json else payload, stream)
    for codec in candidates:
        if not codec.reads_json and codec.recognizes(payload):
            return codec.decode(payload, stream)
    # Parsing is most of the work: the codecs of JSON share one document.
    document = load_json(payload)
    for codec in candidates:
        if codec.reads_json and codec.recognizes(document):
            return codec.decode(document, stream)
    raise DecodeError(f"payload looks like none of {', '.join(codec.format for codec in candidates)}")


@lru_cache(maxsize=256)
def _candidates(content_type: str | None, wanted: str) -> tuple[Codec, ...]:
    """Codecs that may read the payload; more than one where its looks must decide."""
    named = tuple(codec for codec in CODECS if content_type and _bare(content_type) in codec.content_types)
    configured = tuple(codec for codec in named or CODECS if codec.format == wanted)
    return configured or named or CODECS


def _bare(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


__all__ = ["CODECS", "FORMATS", "Codec", "decode"]
