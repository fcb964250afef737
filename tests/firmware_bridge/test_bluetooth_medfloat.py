"""SFLOAT and FLOAT: numbers, values that are none, and every one of the 65,536 words."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.chunk import DecodeError
from firmware_bridge.codecs.bluetooth_medfloat import Float, Sfloat, Special

SFLOAT_SPECIALS = {
    0x07FF: Special.NAN,
    0x0800: Special.NRES,
    0x0801: Special.RESERVED,
    0x07FE: Special.POSITIVE_INFINITY,
    0x0802: Special.NEGATIVE_INFINITY,
}
FLOAT_SPECIALS = {
    0x007FFFFF: Special.NAN,
    0x00800000: Special.NRES,
    0x00800001: Special.RESERVED,
    0x007FFFFE: Special.POSITIVE_INFINITY,
    0x00800002: Special.NEGATIVE_INFINITY,
}


@pytest.mark.parametrize(
    ("bits", "value"),
    [
        (0x006A, 106.0),
        (0xF005, 0.5),
        (0xB069, 0.00105),
        (0x0000, 0.0),
        (0x7001, 1e7),
        (0x8001, 1e-8),
        (0x0FFF, -1.0),
        (0xFFFB, -0.5),
        (0x07FD, 2045.0),
        (0x0803, -2045.0),
        (0xF7FF, 204.7),
    ],
)
def test_sixteen_bits_are_a_decimal(bits: int, value: float) -> None:
    assert Sfloat(bits).value == value


def test_a_body_temperature_is_a_decimal_of_32_bits() -> None:
    assert Float.from_bytes(bytes.fromhex("6E0100FF")).value == 36.6
    assert bytes(Float.of(36.6)).hex() == "6e0100ff"


def test_special_values_are_no_numbers() -> None:
    for bits, special in SFLOAT_SPECIALS.items():
        assert (Sfloat(bits).special, Sfloat(bits).value, Sfloat.of(special).bits) == (special, None, bits)
    for bits, special in FLOAT_SPECIALS.items():
        assert (Float(bits).special, Float(bits).value, Float.of(special).bits) == (special, None, bits)


def test_every_word_is_a_number_or_special_and_encodes_back() -> None:
    for bits in range(1 << 16):
        word = Sfloat(bits)
        assert bytes(word) == bits.to_bytes(2, "little")
        if bits in SFLOAT_SPECIALS:
            assert word.value is None
            continue
        assert word.special is None
        assert word.value is not None
        if abs(word.mantissa) <= 2045:
            assert Sfloat.of(word.value).value == word.value
        expected = word.mantissa * 10**word.exponent if word.exponent >= 0 else word.mantissa / 10**-word.exponent
        assert word.value == expected


@settings(deadline=None)
@given(st.integers(0, (1 << 32) - 1))
def test_every_word_of_32_bits_encodes_back(bits: int) -> None:
    word = Float(bits)
    assert Float.from_bytes(bytes(word)) == word
    assert (word.value is None) == (bits in FLOAT_SPECIALS)
    if word.value is not None and abs(word.mantissa) <= (1 << 23) - 3:
        assert Float.of(word.value).value == word.value


@settings(deadline=None)
@given(st.floats(-2e10, 2e10).filter(lambda x: x == 0 or abs(x) > 1e-5))
def test_a_number_is_held_to_three_digits(number: float) -> None:
    held = Sfloat.of(number).value
    assert held is not None
    assert math.isclose(held, number, rel_tol=3e-3)


@pytest.mark.parametrize("number", [math.nan, math.inf, 3e10])
def test_what_cannot_be_held_is_the_callers_mistake(number: float) -> None:
    with pytest.raises(ValueError, match=r"not a number|too large"):
        Sfloat.of(number)


def test_bits_beyond_the_word_and_bytes_short_of_it_are_refused() -> None:
    with pytest.raises(DecodeError, match="does not fit 16 bits"):
        Sfloat(1 << 16)
    with pytest.raises(DecodeError, match="3 are there"):
        Float.from_bytes(b"abc")
