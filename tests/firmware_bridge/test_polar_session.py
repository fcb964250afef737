"""The conversation with a Polar sensor, and with any heart rate strap."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_link import Ear, ScriptedLink, at, opened

from firmware_bridge.chunk import DecodeError
from firmware_bridge.codecs import polar_pmd
from firmware_bridge.codecs.bluetooth_heart_rate import HeartRate
from firmware_bridge.codecs.polar_pmd import PmdType
from firmware_bridge.codecs.polar_pmd_control import (
    PmdAnswer,
    PmdOffers,
    PmdOp,
    PmdRequest,
    PmdSetting,
    PmdSettingType,
    PmdStatus,
    PmdStopped,
)
from firmware_bridge.codecs.polar_pmd_ppi import PulseInterval, ppi_frame
from firmware_bridge.codecs.polar_pmd_samples import ecg_frame, frame_of
from firmware_bridge.devices import Advertisement, DeviceRefusedError, Profile, Session, profiles, recognise, uuid16
from firmware_bridge.devices.assigned_numbers import HEART_RATE_MEASUREMENT
from firmware_bridge.devices.heart_rate_strap import CONTACT, NO_CONTACT
from firmware_bridge.devices.polar import H10, OH1, VERITY_SENSE

STRAP = profiles()["heart-rate-strap"]
ECG_SETTINGS = (PmdSetting(PmdSettingType.RATE_HZ, (130,)), PmdSetting(PmdSettingType.RESOLUTION_BITS, (14,)))


class Sensor:
    """The control point of a virtual sensor: settings per measurement, and what is running."""

    def __init__(self) -> None:
        self.settings = {PmdType.ECG: ECG_SETTINGS}
        self.running: set[PmdType] = set()
        self.refuses: PmdStatus | None = None

    def answer(self, characteristic: str, data: bytes) -> bytes:
        assert characteristic == polar_pmd.CONTROL_POINT
        asked = PmdRequest.from_bytes(data)
        status, settings = PmdStatus.SUCCESS, ()
        if asked.op is PmdOp.SETTINGS:
            settings = self.settings[asked.measurement]
        elif self.refuses is not None:
            status = self.refuses
        elif (asked.op is PmdOp.START) == (asked.measurement in self.running):
            status = PmdStatus.ALREADY_IN_STATE
        else:
            self.running ^= {asked.measurement}
        return bytes(PmdAnswer(asked.op, asked.measurement, status, settings))


def link_to(sensor: Sensor) -> ScriptedLink:
    bits = sum(1 << measurement for measurement in sensor.settings)
    return ScriptedLink({polar_pmd.CONTROL_POINT: bytes(PmdOffers(bits, bytes(15)))}, sensor.answer)


def started(sensor: Sensor, *channels: str) -> tuple[Session, Ear, ScriptedLink]:
    session, ear = opened(H10, channels or None)
    link = link_to(sensor)
    asyncio.run(session.start(link))
    return session, ear, link


def test_an_h10_is_subscribed_to_asked_and_started() -> None:
    _, _, link = started(Sensor())
    assert link.subscribed == [polar_pmd.CONTROL_POINT, polar_pmd.DATA, HEART_RATE_MEASUREMENT]
    assert [data.hex() for _, data in link.written] == ["0100", "02000001820001010e00"]


def test_only_what_is_wanted_is_asked_for() -> None:
    _, _, link = started(Sensor(), "hr")
    assert (link.subscribed, link.written) == ([HEART_RATE_MEASUREMENT], [])


def test_its_ecg_is_its_values_in_mv_bit_for_bit() -> None:
    session, ear, _ = started(Sensor())
    uv = np.random.default_rng(1).integers(-(1 << 17), 1 << 17, (730, 1))
    for packet in range(10):
        last = (packet + 1) * 73 - 1
        frame = ecg_frame(round(last * 1e9 / 130), uv[packet * 73 : (packet + 1) * 73])
        session.notified(polar_pmd.DATA, bytes(frame), at(last / 130 + 0.03))
    assert ear.samples("ecg").dtype == np.float32
    assert np.array_equal(ear.samples("ecg"), (uv * 1e-3).astype(np.float32))
    assert [(chunk.seq, chunk.boot_id, chunk.stream.rate_hz) for chunk in ear.chunks] == [
        (n, 0, 130.0) for n in range(10)
    ]


def test_an_ecg_left_running_by_another_is_stopped_and_started_again() -> None:
    sensor = Sensor()
    sensor.running.add(PmdType.ECG)
    _, _, link = started(sensor)
    assert [data[0] for _, data in link.written] == [PmdOp.SETTINGS, PmdOp.START, PmdOp.STOP, PmdOp.START]
    assert sensor.running == {PmdType.ECG}


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (PmdStatus.INVALID_MTU, "ecg: start: the packets agreed on are too small"),
        (PmdStatus.IN_CHARGER, "ecg: start: it is in its charger"),
        (PmdStatus.NOT_SUPPORTED, "ecg: start: not supported"),
        (PmdStatus.ALREADY_IN_STATE, "ecg: start: already in state"),
    ],
)
def test_a_refusal_is_told_in_words(status: PmdStatus, words: str) -> None:
    sensor = Sensor()
    sensor.refuses = status
    with pytest.raises(DeviceRefusedError, match=words):
        started(sensor)


def test_a_missing_measurement_and_another_rate_are_refused_in_words() -> None:
    session, _ = opened(H10)
    sensor = Sensor()
    sensor.settings = {PmdType.ACC: ECG_SETTINGS}
    with pytest.raises(DeviceRefusedError, match="it does not offer ecg"):
        asyncio.run(session.start(link_to(sensor)))
    sensor.settings = {PmdType.ECG: (PmdSetting(PmdSettingType.RATE_HZ, (125, 250)),)}
    with pytest.raises(DeviceRefusedError, match="it offers ecg at 125, 250 Hz, not 130 Hz"):
        asyncio.run(session.start(link_to(sensor)))


def test_an_answer_to_another_question_is_none() -> None:
    link = link_to(Sensor())
    link.answers = lambda _characteristic, _data: bytes.fromhex("F003000000")
    session, _ = opened(H10)
    with pytest.raises(DecodeError, match="an answer to STOP ECG"):
        asyncio.run(session.start(link))


def test_a_stop_in_place_of_an_answer_and_an_answer_that_nobody_awaits_are_told() -> None:
    link = link_to(Sensor())
    link.answers = lambda _characteristic, _data: bytes(PmdStopped((PmdType.ECG,)))
    session, ear = opened(H10)
    with pytest.raises(DecodeError, match="it stopped on its own instead of answering"):
        asyncio.run(session.start(link))
    assert [notice.text for notice in ear.notices] == ["it stopped sending ecg on its own"]
    asyncio.run(session.start(link_to(Sensor())))
    assert [notice.text for notice in ear.notices][1:] == [""]
    session.notified(polar_pmd.CONTROL_POINT, bytes.fromhex("F002000000"), at(0))
    assert ear.dropped == ["late answer"]


def test_what_the_sensor_stops_on_its_own_is_started_again() -> None:
    async def run() -> None:
        sensor = Sensor()
        session, ear = opened(H10)
        link = link_to(sensor)
        await session.start(link)
        tending = asyncio.create_task(session.tend(link))
        sensor.running.clear()
        session.notified(polar_pmd.CONTROL_POINT, bytes(PmdStopped((PmdType.ECG, PmdType.GYRO))), at(1))
        while not sensor.running:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [notice.text for notice in ear.notices] == ["it stopped sending ecg on its own", ""]
        tending.cancel()

    asyncio.run(run())


def test_it_is_told_to_stop_at_an_orderly_end() -> None:
    sensor = Sensor()
    session, _, link = started(sensor)
    asyncio.run(session.stop(link))
    assert sensor.running == set()
    assert link.written[-1] == (polar_pmd.CONTROL_POINT, bytes.fromhex("0300"))


def test_samples_that_nobody_wants_are_counted() -> None:
    session, ear, _ = started(Sensor(), "hr")
    session.notified(polar_pmd.DATA, bytes(ecg_frame(0, np.array([[1]]))), at(0))
    assert (ear.chunks, ear.dropped) == ([], ["unwanted"])


@pytest.mark.parametrize("profile", [H10, STRAP], ids=lambda profile: profile.id)
def test_without_contact_there_is_no_reading(profile: object) -> None:
    session, ear = opened(profile)  # type: ignore[arg-type]
    for second, (bpm, contact) in enumerate([(72, 3), (70, 2), (0, 2), (71, 3), (0, 3), (73, 0)]):
        session.notified(HEART_RATE_MEASUREMENT, bytes(HeartRate(bpm, contact)), at(second))
    assert [(chunk.stream.kind, chunk.t0_ns, chunk.samples.tolist()) for chunk in ear.chunks] == [
        ("hr", at(second).utc_ns, [[bpm]]) for second, bpm in ((0, 72), (3, 71), (5, 73))
    ]
    assert ear.notices == [NO_CONTACT, CONTACT]


def test_an_impossible_rate_costs_only_itself_not_the_news_of_lost_contact() -> None:
    session, ear = opened(STRAP)
    session.notified(HEART_RATE_MEASUREMENT, bytes(HeartRate(60, 2)), at(0))
    session.notified(HEART_RATE_MEASUREMENT, bytes(HeartRate(60_000, 3, wide=True)), at(1))
    assert ear.notices == [NO_CONTACT, CONTACT]
    assert [str(error) for heard in ear.heard for error in heard.refused] == [
        "p1/heart-rate-strap/hr: 60000 1/min is no hr value (0 to 500 1/min)"
    ]


def test_an_h10_is_known_by_its_name_before_any_strap() -> None:
    heard = Advertisement("Polar H10 8C4A2B21", frozenset({uuid16(0x180D), uuid16(0xFEEE)}))
    assert next(profile.id for profile in recognise(heard)) == "polar-h10"
    assert recognise(Advertisement("Polar Sense B5102A2C"))[0] is VERITY_SENSE
    assert [profile.id for profile in recognise(Advertisement("HRM-Dual", frozenset({uuid16(0x180D)})))] == [
        "heart-rate-strap"
    ]


ACC_SETTINGS = (
    PmdSetting(PmdSettingType.RATE_HZ, (25, 50, 100, 200)),
    PmdSetting(PmdSettingType.RESOLUTION_BITS, (16,)),
    PmdSetting(PmdSettingType.RANGE, (2, 4, 8)),
)


def test_acceleration_of_an_h10_in_g_where_it_is_asked_for() -> None:
    sensor = Sensor()
    sensor.settings[PmdType.ACC] = ACC_SETTINGS
    session, ear, link = started(sensor, "acc")
    assert [data.hex() for _, data in link.written] == ["0102", "0202" + "00013200" + "01011000" + "02010800"]
    mg = np.array([[-8000, 1000, 17], [3, -1, 0]])
    session.notified(polar_pmd.DATA, bytes(frame_of(PmdType.ACC, 0, mg, 1)), at(0))
    assert np.array_equal(ear.samples("acc"), (mg * 1e-3).astype(np.float32))


def test_compressed_samples_are_multiplied_by_the_factor_told_at_the_start() -> None:
    sensor = Sensor()
    sensor.settings = {PmdType.ACC: ACC_SETTINGS}
    session, ear = opened(H10, ["acc"])
    link = link_to(sensor)

    def with_factor(characteristic: str, data: bytes) -> bytes:
        answer = PmdAnswer.from_bytes(sensor.answer(characteristic, data))
        return bytes(replace(answer, settings=(*answer.settings, PmdSetting.of_factor(0.25))))

    link.answers = with_factor
    asyncio.run(session.start(link))
    counts = np.array([[4, -8, 12]])
    for last_ns, frame_type in ((0, 1), (20_000_000, 0)):
        frame = frame_of(PmdType.ACC, last_ns, counts, frame_type, compressed=True)
        session.notified(polar_pmd.DATA, bytes(frame), at(last_ns / 1e9))
    assert ear.samples("acc").tolist() == [[np.float32(0.001), np.float32(-0.002), np.float32(0.003)], [1.0, -2.0, 3.0]]


def test_an_armband_gives_light_and_the_rate_of_pulse_intervals_at_rest() -> None:
    sensor = Sensor()
    sensor.settings = {
        PmdType.PPG: (PmdSetting(PmdSettingType.RATE_HZ, (55,)), PmdSetting(PmdSettingType.RESOLUTION_BITS, (22,))),
        PmdType.PPI: (),
    }
    session, ear = opened(VERITY_SENSE, ["ppg", "pulse"])
    link = link_to(sensor)
    asyncio.run(session.start(link))
    assert [data.hex() for _, data in link.written] == ["0101", "0201" + "00013700" + "01011600", "0203"]
    light = np.array([[1000, 2000, -3000, 7], [1001, 1999, -3004, 7]])
    session.notified(polar_pmd.DATA, bytes(frame_of(PmdType.PPG, 0, light, 0, compressed=True)), at(0))
    assert np.array_equal(ear.samples("ppg"), light)
    steady = (PulseInterval(0, 800, 5, 6), PulseInterval(0, 700, 5, 6), PulseInterval(0, 5000, 5, 7))
    session.notified(polar_pmd.DATA, bytes(ppi_frame(0, steady)), at(30))
    session.notified(polar_pmd.DATA, bytes(ppi_frame(0, steady[2:])), at(31))
    assert [(chunk.t0_ns, chunk.samples.tolist()) for chunk in ear.chunks if chunk.stream.channel == "pulse"] == [
        (at(30).utc_ns, [[80.0]])
    ]
    assert ear.dropped == ["unsteady"]


CHARACTERISTICS = (polar_pmd.DATA, polar_pmd.CONTROL_POINT, HEART_RATE_MEASUREMENT, uuid16(0x2A19))
heard_bytes = st.one_of(
    st.binary(max_size=60),
    st.builds(
        lambda kind, layout, rest: bytes([kind]) + bytes(8) + bytes([layout]) + rest,
        st.integers(0, 6),
        st.sampled_from([0, 1, 2, 0x80, 0x81]),
        st.binary(max_size=60),
    ),
    st.binary(max_size=4).map(lambda rest: b"\x01" + rest),
)


@pytest.mark.parametrize("profile", [H10, VERITY_SENSE, OH1], ids=lambda profile: profile.id)
@pytest.mark.parametrize("begin", [False, True])
@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(CHARACTERISTICS), heard_bytes), max_size=30))
def test_whatever_comes_and_whenever_only_a_decode_error_is_raised(
    profile: Profile, begin: bool, came: list[tuple[str, bytes]]
) -> None:
    session, ear = opened(profile, {offer.channel for offer in profile.offers})
    if begin:
        sensor = Sensor()
        sensor.settings = dict.fromkeys(PmdType, ())
        asyncio.run(session.start(link_to(sensor)))
    only_decode_errors(lambda one: session.notified(one[0], one[1], at(0)), came)
    assert all(np.isfinite(chunk.samples).all() for chunk in ear.chunks)


def only_decode_errors(tell: Callable[[tuple[str, bytes]], None], came: list[tuple[str, bytes]]) -> None:
    for one in came:
        try:
            tell(one)
        except DecodeError:
            continue
