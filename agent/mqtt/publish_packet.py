"""A PUBLISH packet of MQTT 5 or 3.1.1, read in one go: the kind of which a ward's sensors send thousands a second."""

from __future__ import annotations

from struct import Struct
from typing import Any

from agent.mqtt.nouns import Message

_U16 = Struct("!H")
_CONTENT_TYPE, _RESPONSE_TOPIC, _CORRELATION, _SUBSCRIPTION, _USER = 0x03, 0x08, 0x09, 0x0B, 0x26
_FIXED = {0x01: 1, 0x02: 4}
"""Bytes of payload format and expiry, which nobody here asks for."""
_FIELD = {_CONTENT_TYPE: "content_type", _RESPONSE_TOPIC: "response_topic"}


def parse_publish(flags: int, body: bytes | bytearray, connection_number: int, *, is_v5: bool) -> Message:
    """The message of a packet whose first byte is `flags`, without its fixed header.

    Raises ValueError, IndexError or struct.error on anything out of the ordinary: a packet that is malformed, QoS 2, a
    topic that is not UTF-8 or empty, a property twice, a property that has no place here.
    """
    qos = flags >> 1 & 3
    topic, at = _text(body, 0)
    if not topic or qos > 1:
        raise ValueError("no topic, or QoS 2")
    mid = 0
    if qos:
        mid, at = _U16.unpack_from(body, at)[0], at + 2
    properties: dict[str, Any] = {}
    if is_v5:
        length, at = _number(body, at)
        end = at + length
        if length:
            properties = _properties(body, at, end)
        at = end
    if at > len(body):
        raise ValueError("cut off")
    return Message(
        topic=topic,
        payload=bytes(memoryview(body)[at:]),
        qos=qos,
        retain=bool(flags & 1),
        duplicate=bool(flags & 8),
        content_type=properties.get("content_type"),
        user_properties=tuple(properties.get("user_properties", ())),
        mid=mid,
        connection_number=connection_number,
        response_topic=properties.get("response_topic"),
        correlation=properties.get("correlation"),
    )


def _properties(body: bytes | bytearray, at: int, end: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    value: str | bytes | None
    while at < end:
        identifier = body[at]
        at += 1
        if identifier in _FIELD:
            name = _FIELD[identifier]
            value, at = _text(body, at)
        elif identifier == _CORRELATION:
            name = "correlation"
            value, at = _bytes(body, at)
        elif identifier == _USER:
            key, at = _text(body, at)
            value, at = _text(body, at)
            found.setdefault("user_properties", []).append((key, value))
            continue
        elif identifier == _SUBSCRIPTION:
            _, at = _number(body, at)
            continue
        else:
            name, value, at = f"{identifier}", None, at + _FIXED[identifier]
        if name in found:
            raise ValueError("a property stands twice")
        found[name] = value
    if at != end:
        raise ValueError("properties are longer than they say")
    return found


def _bytes(body: bytes | bytearray, at: int) -> tuple[bytes, int]:
    start = at + 2
    end = start + _U16.unpack_from(body, at)[0]
    if end > len(body):
        raise ValueError("cut off")
    return bytes(body[start:end]), end


def _text(body: bytes | bytearray, at: int) -> tuple[str, int]:
    encoded, end = _bytes(body, at)
    return encoded.decode(), end


def _number(body: bytes | bytearray, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = body[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 21:
            raise ValueError("a length of more than four bytes")
