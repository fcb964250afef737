"""Movesense: its packets both ways, and the conversation."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from bluetooth_examples import decodes_back_or_refuses
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_link import Ear, ScriptedLink, at, opened

from firmware_bridge.chunk import DecodeError
from firmware_bridge.codecs.movesense import (
    COMMANDS,
    DATA,
    ECG_LSB_MV,
    MovesenseAnswer,
    MovesenseData,
    MovesenseSubscribe,
    MovesenseUnsubscribe,
    command_from_bytes,
    notification_from_bytes,
)
from firmware_bridge.devices import Advertisement, DeviceRefusedError, LinkError, Session, recognise
from firmware_bridge.devices.movesense import PROFILE, MovesenseSession


def test_a_command_and_its_answer() -> None:
    asked = MovesenseSubscribe(1, "Meas/ECG/125")
    assert bytes(asked) == b"\x01\x01Meas/ECG/125"
    assert command_from_bytes(bytes(asked)) == asked
    assert command_from_bytes(b"\x02\x07") == MovesenseUnsubscribe(7)
    answer = notification_from_bytes(bytes.fromhex("0101C800"))
    assert answer == MovesenseAnswer(1, 200)
    assert answer.is_success
    assert not MovesenseAnswer(1, 404).is_success


def test_samples_of_ecg() -> None:
    data = bytes.fromhex("0201E80300000100000000FFFFFF")
    said = notification_from_bytes(data)
    assert isinstance(said, MovesenseData)
    assert (said.reference, said.first_ms, said.ecg_counts().tolist()) == (1, 1000, [[1], [-256]])
    assert bytes(MovesenseData.of_ecg(1, 1000, said.ecg_counts())) == data


def test_half_a_sample_and_what_is_unknown_say_where() -> None:
    with pytest.raises(DecodeError, match="5 bytes are not one or more samples of 4 bytes") as raised:
        MovesenseData(1, 0, bytes(5)).ecg_counts()
    assert raised.value.offset == 10
    with pytest.raises(DecodeError, match="kind 3 of notification is unknown"):
        notification_from_bytes(b"\x03\x01")
    with pytest.raises(DecodeError, match="command 9 is unknown"):
        command_from_bytes(b"\x09\x01")
    with pytest.raises(DecodeError, match="not printable ASCII"):
        MovesenseSubscribe(1, "Meas/ÄCG")


@settings(deadline=None)
@given(st.binary(max_size=30), st.integers(0, 3))
def test_any_bytes(data: bytes, kind: int) -> None:
    for tried in (data, bytes([kind]) + data):
        decodes_back_or_refuses(tried, command_from_bytes)
        decodes_back_or_refuses(tried, notification_from_bytes)


class Sensor:
    """What a sensor answers, one status after another, and a link to it."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.session: Session | None = None
        self.link = ScriptedLink(on_write=self.written)

    def written(self, characteristic: str, data: bytes) -> None:
        assert (characteristic, data[1]) == (COMMANDS, 1)
        assert self.session is not None
        if self.statuses:
            self.session.notified(DATA, bytes(MovesenseAnswer(1, self.statuses.pop(0))), at(0))


def started(*statuses: int, **options: object) -> tuple[Session, Ear, Sensor]:
    sensor = Sensor(*statuses)
    session, ear = opened(PROFILE, **options)
    sensor.session = session
    asyncio.run(session.start(sensor.link))
    return session, ear, sensor


def test_its_ecg_in_mv_and_a_hole_in_it() -> None:
    session, ear, sensor = started(200)
    assert sensor.link.written == [(COMMANDS, b"\x01\x01Meas/ECG/125")]
    counts = np.arange(-32, 32).reshape(-1, 1) * 1000
    for packet in (0, 1, 3):
        first_ms = 5000 + packet * 128
        part = counts[packet * 16 : packet * 16 + 16]
        session.notified(DATA, bytes(MovesenseData.of_ecg(1, first_ms, part)), at(first_ms / 1000))
    assert np.array_equal(ear.samples("ecg"), (np.delete(counts, range(32, 48), 0) * ECG_LSB_MV).astype(np.float32))
    assert [chunk.seq for chunk in ear.chunks] == [0, 1, 3]
    assert ear.chunks[1].t0_ns - ear.chunks[0].t0_ns == 128_000_000
    session.notified(DATA, bytes(MovesenseData.of_ecg(9, 0, counts)), at(6))
    assert ear.dropped == ["unwanted"]


def test_another_rate_where_the_configuration_says_so() -> None:
    _, _, sensor = started(200, ecg_rate_hz=250)
    assert sensor.link.written == [(COMMANDS, b"\x01\x01Meas/ECG/250")]


def test_one_left_subscribed_is_subscribed_to_anew_and_one_that_will_not_is_refused() -> None:
    _, _, sensor = started(409, 200, 200)
    assert [data[0] for _, data in sensor.link.written] == [1, 2, 1]
    with pytest.raises(DeviceRefusedError, match=r"does not give Meas/ECG/125 \(status 404\)"):
        started(404, 404, 404)


def test_one_that_does_not_answer_is_given_up_and_one_is_told_to_stop() -> None:
    streams = {"ecg": PROFILE.offers[0].stream("p1", "movesense")}
    session = MovesenseSession(streams, {}, Ear(), answer_s=0.0)
    sensor = Sensor()
    sensor.session = session
    with pytest.raises(LinkError, match="no answer"):
        asyncio.run(session.start(sensor.link))
    asyncio.run(session.stop(sensor.link))
    assert sensor.link.written[-1] == (COMMANDS, b"\x02\x01")


def test_it_is_known_by_its_name() -> None:
    assert recognise(Advertisement("Movesense 210330000123")) == [PROFILE]


@settings(deadline=None)
@given(st.lists(st.binary(max_size=30) | st.binary(max_size=30).map(lambda rest: b"\x02\x01" + rest), max_size=20))
def test_whatever_comes_only_a_decode_error_is_raised(came: list[bytes]) -> None:
    session, ear = opened(PROFILE)
    for data in came:
        try:
            session.notified(DATA, data, at(0))
        except DecodeError:
            continue
    assert all(np.isfinite(chunk.samples).all() for chunk in ear.chunks)
