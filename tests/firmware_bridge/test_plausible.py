"""What every codec's numbers must pass: unit, rate, time, value."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from bridge_examples import ACC, CGM, ECG, T0_NS

from firmware_bridge.chunk import CANONICAL_UNIT, DecodeError, Stream
from firmware_bridge.plausible import EARLIEST_NS, LATEST_NS, PLAUSIBLE_RANGE, agreed_stream, is_spot, to_chunk

ONE = np.array([[1.0]])


def test_every_kind_has_a_plausible_range() -> None:
    assert PLAUSIBLE_RANGE.keys() == CANONICAL_UNIT.keys()


@pytest.mark.parametrize("mmol", [2.2, 3.9, 5.5, 10.0, 22.2])
def test_mmol_becomes_mg_dl_with_one_rounding(mmol: float) -> None:
    chunk = to_chunk(CGM, T0_NS, np.array([[mmol]]), unit="mmol/L")
    assert chunk.samples[0, 0] == np.float32(mmol * 18.0156)


def test_microvolts_counts_and_volts_become_millivolts() -> None:
    assert to_chunk(ECG, T0_NS, np.array([[1500]], np.int16), unit="uV").samples[0, 0] == np.float32(1.5)
    assert to_chunk(ECG, T0_NS, np.array([[300]], np.int16), unit="uV", scale=5.0).samples[0, 0] == np.float32(1.5)
    assert to_chunk(ECG, T0_NS, np.array([[0.0015]]), unit="V").samples[0, 0] == np.float32(1.5)


def test_a_payload_without_a_unit_is_in_the_one_configured_as_sent() -> None:
    sent_in_mmol = replace(CGM, sent_unit="mmol/L")
    assert to_chunk(sent_in_mmol, T0_NS, np.array([[5.5]])).samples[0, 0] == np.float32(5.5 * 18.0156)
    assert to_chunk(sent_in_mmol, T0_NS, np.array([[99.0]]), unit="mg/dL").samples[0, 0] == 99.0


def test_a_unit_that_cannot_be_converted_is_named() -> None:
    with pytest.raises(DecodeError, match=r"'mmHg' cannot be converted to 'mV'"):
        to_chunk(ECG, T0_NS, ONE, unit="mmHg")


@pytest.mark.parametrize("rate_hz", [247.6, 250.0, 252.4])
def test_a_rate_within_one_percent_keeps_the_configured_one(rate_hz: float) -> None:
    assert agreed_stream(ECG, rate_hz) is ECG


@pytest.mark.parametrize("rate_hz", [0.0, 247.0, 253.0, 360.0])
def test_a_rate_that_differs_is_refused_with_both(rate_hz: float) -> None:
    with pytest.raises(DecodeError, match=rf"payload says {rate_hz:g} Hz, configuration says 250 Hz"):
        agreed_stream(ECG, rate_hz)


@pytest.mark.parametrize("rate_hz", [float("nan"), float("inf"), -250.0, 0.01, 4001.0, 1e300])
def test_a_rate_no_wearable_has_is_refused(rate_hz: float) -> None:
    for stream in (ECG, ACC, CGM):
        with pytest.raises(DecodeError, match="not one a wearable has"):
            agreed_stream(stream, rate_hz)


def test_without_a_configured_rate_a_waveform_takes_the_stated_one_and_a_spot_stream_none() -> None:
    assert agreed_stream(ACC, 52.0) == replace(ACC, rate_hz=52.0)
    assert agreed_stream(CGM, 0.0) is CGM
    assert is_spot(CGM)
    assert not is_spot(ACC)
    with pytest.raises(DecodeError, match="configuration says single readings"):
        agreed_stream(CGM, 1.0)
    cuff = replace(CGM, kind="abp", unit="mmHg", interval_s=900.0)
    with pytest.raises(DecodeError, match="configuration says single readings"):
        agreed_stream(cuff, 125.0)


def test_several_samples_need_a_rate() -> None:
    with pytest.raises(DecodeError, match="2 samples without a sampling rate"):
        to_chunk(CGM, T0_NS, np.array([[100.0], [101.0]]))


@pytest.mark.parametrize("t_ns", [0, -1, EARLIEST_NS - 1, LATEST_NS, 1_795_000_000, 1 << 63, 10**400, -(10**400)])
def test_a_time_no_living_device_has_is_refused(t_ns: int) -> None:
    with pytest.raises(DecodeError, match="outside the years 1990 to 2200"):
        to_chunk(ECG, t_ns, ONE)


@pytest.mark.parametrize(
    ("stream", "value"), [(ECG, 1000.5), (ECG, -1001.0), (CGM, -0.1), (CGM, 1000.1), (ECG, 1e300), (ECG, 3.4e38)]
)
def test_an_absurd_value_is_refused(stream: Stream, value: float) -> None:
    with pytest.raises(DecodeError, match=f"is no {stream.kind} value"):
        to_chunk(stream, T0_NS, np.array([[value]]))


@pytest.mark.parametrize("bits", [0x7FC00000, 0x7F800000, 0xFF800000, 0x7F800001, 0xFFFFFFFF])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_nan_of_both_sorts_and_infinity_are_refused_without_a_warning(bits: int, scale: float) -> None:
    values = np.array([[0], [bits]], np.uint32).view(np.float32)
    with pytest.raises(DecodeError, match="not a finite number"):
        to_chunk(ECG, T0_NS, values, scale=scale)


@pytest.mark.parametrize("shape", [(0, 1), (1, 2), (1, 0)])
def test_a_shape_that_is_not_the_streams_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(DecodeError):
        to_chunk(ECG, T0_NS, np.zeros(shape))
