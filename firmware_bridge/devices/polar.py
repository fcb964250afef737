"""Polar's sensors: the chest strap H10, the optical Verity Sense and OH1.

Verified against worked bytes: the control point's offers, settings, start and its answer; ECG frames; the compressed
layout. Raw acceleration, light, pulse intervals, what the optical sensors answer to, and the codes of refusals are from
vendor material.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from firmware_bridge.chunk import Stream
from firmware_bridge.codecs import polar_pmd
from firmware_bridge.devices.assigned_numbers import HEART_RATE_MEASUREMENT, POLAR_SERVICE
from firmware_bridge.devices.heart_rate_strap import HR
from firmware_bridge.devices.polar_pmd_stream import PmdPulse, PmdReader, acceleration, ecg, light
from firmware_bridge.devices.polar_session import PolarSession
from firmware_bridge.devices.profile import Offer, OptionValue, Profile
from firmware_bridge.devices.session import Emit

AXES = ("x", "y", "z")
DIODES = ("1", "2", "3", "ambient")

_READERS: dict[str, Callable[[Stream], PmdReader]] = {
    "ecg": ecg,
    "ppg": light,
    "acc": acceleration,
    "pulse": PmdPulse,
}
"""By channel."""

PULSE = Offer("pulse", "hr", interval_s=5.0, default=False)
"""The rate of the pulse intervals, which are of use at rest only; while they are sent, the heart rate comes seldom."""


def _open(streams: Mapping[str, Stream], _options: Mapping[str, OptionValue], emit: Emit) -> PolarSession:
    readers = [_READERS[channel](stream) for channel, stream in streams.items() if channel in _READERS]
    return PolarSession(readers, streams.get(HR.channel), emit)


def _profile(id_: str, name: str, words: str, name_pattern: str, offers: tuple[Offer, ...], verified: str) -> Profile:
    return Profile(
        id=id_,
        name=name,
        words=words,
        offers=offers,
        open=_open,
        services=frozenset({POLAR_SERVICE, polar_pmd.SERVICE}),
        name_pattern=name_pattern,
        characteristics=frozenset({polar_pmd.CONTROL_POINT, polar_pmd.DATA, HEART_RATE_MEASUREMENT}),
        min_mtu=polar_pmd.MIN_MTU,
        verified=verified,
    )


H10 = _profile(
    "polar-h10",
    "Polar H10",
    "A chest strap: one ECG lead at 130 Hz, the heart rate about once a second, acceleration where asked for.",
    r"Polar H10 .*",
    (Offer("ecg", "ecg", rate_hz=130.0), HR, Offer("acc", "acc", rate_hz=50.0, channels=AXES, default=False)),
    "start and stop, ECG, heart rate: worked bytes; acceleration: † vendor material",
)
_OPTICAL = "start and stop, heart rate, compressed samples: worked bytes; light and pulse: † vendor material"
VERITY_SENSE = _profile(
    "polar-verity-sense",
    "Polar Verity Sense",
    "An optical armband: the pulse wave at 55 Hz, the heart rate, acceleration and pulse intervals where asked for.",
    r"Polar Sense .*",
    (
        Offer("ppg", "ppg", rate_hz=55.0, channels=DIODES),
        HR,
        PULSE,
        Offer("acc", "acc", rate_hz=52.0, channels=AXES, default=False),
    ),
    _OPTICAL,
)
OH1 = _profile(
    "polar-oh1",
    "Polar OH1",
    "An optical armband: the pulse wave at 130 Hz, the heart rate, acceleration and pulse intervals where asked for.",
    r"Polar OH1 .*",
    (
        Offer("ppg", "ppg", rate_hz=130.0, channels=DIODES),
        HR,
        PULSE,
        Offer("acc", "acc", rate_hz=50.0, channels=AXES, default=False),
    ),
    _OPTICAL,
)
