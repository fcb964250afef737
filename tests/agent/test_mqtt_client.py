"""Messages are made of packets as paho makes them, and what is strange is left to it."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt import client as paho
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.mqtt.client import Client
from agent.mqtt.link import new_properties
from agent.mqtt.nouns import Message
from agent.mqtt.publish_packet import parse_publish

TEXT = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=30)
STRANGE = (ValueError, LookupError, struct.error)


def packet(topic: bytes, mid: int | None, properties: Properties | None, payload: bytes) -> bytes:
    number = b"" if mid is None else struct.pack("!H", mid)
    told = b"" if properties is None else properties.pack()  # type: ignore[no-untyped-call]
    return struct.pack("!H", len(topic)) + topic + number + bytes(told) + payload


@st.composite
def all_properties(draw: st.DrawFn) -> Properties:
    properties = new_properties(PacketTypes.PUBLISH)
    told = {
        "PayloadFormatIndicator": st.integers(0, 1),
        "MessageExpiryInterval": st.integers(0, (1 << 32) - 1),
        "ContentType": TEXT,
        "ResponseTopic": TEXT,
        "CorrelationData": st.binary(max_size=40),
        "UserProperty": st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3),
        "SubscriptionIdentifier": st.integers(1, 268_435_455),
    }
    for name in draw(st.lists(st.sampled_from(sorted(told)), unique=True)):
        setattr(properties, name, draw(told[name]))
    return properties


@given(TEXT.filter(bool), st.binary(max_size=300), all_properties(), st.integers(1, 65_535), st.integers(0, 11))
def test_a_message_of_mqtt_5_is_the_one_that_was_sent(
    topic: str, payload: bytes, properties: Properties, mid: int, flags: int
) -> None:
    qos = flags >> 1 & 1
    flags &= 0b1011
    message = parse_publish(
        0x30 | flags, packet(topic.encode(), mid if qos else None, properties, payload), 7, is_v5=True
    )
    assert message == Message(
        topic=topic,
        payload=payload,
        qos=qos,
        retain=bool(flags & 1),
        duplicate=bool(flags & 8),
        content_type=getattr(properties, "ContentType", None),
        user_properties=tuple(getattr(properties, "UserProperty", ())),
        mid=mid if qos else 0,
        connection_number=7,
        response_topic=getattr(properties, "ResponseTopic", None),
        correlation=getattr(properties, "CorrelationData", None),
    )


@given(TEXT.filter(bool), st.binary(max_size=300))
def test_a_message_of_mqtt_3_has_no_properties(topic: str, payload: bytes) -> None:
    message = parse_publish(0x32, packet(topic.encode(), 5, None, payload), 1, is_v5=False)
    assert (message.topic, message.payload, message.mid, message.content_type) == (topic, payload, 5, None)


@given(st.integers(0, 15), st.binary(max_size=60), st.booleans())
def test_any_bytes_are_a_message_or_strange(flags: int, body: bytes, is_v5: bool) -> None:
    with suppress(*STRANGE):
        assert len(parse_publish(0x30 | flags, body, 1, is_v5=is_v5).payload) <= len(body)


@given(all_properties(), st.data())
def test_a_packet_cut_off_before_its_payload_is_strange(properties: Properties, data: st.DataObject) -> None:
    whole = packet(b"vagus/v1/in/d1/ecg", 3, properties, b"")
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(STRANGE):
        parse_publish(0x32, whole[:cut], 1, is_v5=True)


@pytest.mark.parametrize(
    "body",
    [
        packet(b"", 1, None, b"\0"),  # an alias would stand for the topic, and none was agreed upon
        packet(b"t\xff", 1, None, b"\0"),
        packet(b"t", 1, None, b"\x06\x03\0\0\x03\0\0payload"),  # a content type twice
        packet(b"t", 1, None, b"\x03\x23\0\1payload"),  # a topic alias
        packet(b"t", 1, None, b"\x02\x03\0\0payload"),  # a property longer than all of them are said to be
        packet(b"t", 1, None, b"\xff\xff\xff\xff\x01"),
    ],
)
def test_what_is_strange_is_left_to_paho(body: bytes) -> None:
    with pytest.raises(STRANGE):
        parse_publish(0x32, body, 1, is_v5=True)


def test_quality_of_service_2_is_left_to_paho() -> None:
    with pytest.raises(STRANGE):
        parse_publish(0x34, packet(b"t", 1, None, b"\0"), 1, is_v5=True)


@pytest.mark.parametrize("name", [name for name in (*vars(Client), "_packet_queue") if name[0] == "_" != name[1]])
def test_what_is_overridden_is_there_in_paho(name: str) -> None:
    assert callable(getattr(paho.Client, name))


def test_acknowledgements_leave_in_one_packet_in_their_order() -> None:
    ours, theirs = socket.socketpair()
    client = Client(MQTTProtocolVersion.MQTTv5, 1, lambda _: None, client_id="c")
    client._sock = ours
    client.acknowledge([5, 258])
    client.loop_write()
    assert theirs.recv(100) == b"\x40\x02\x00\x05\x40\x02\x01\x02"
    ours.close()
    theirs.close()
