"""Every kind of wearable that can be spoken with. One more is one file here and one line in BUILT_IN, or, in a package
of its own, one entry point of the group "vagus.devices" that names its Profile."""

from __future__ import annotations

import logging
from functools import cache
from importlib.metadata import entry_points

from firmware_bridge.clock import Arrival
from firmware_bridge.devices import (
    cgm,
    glucose_meter,
    heart_rate_strap,
    movesense,
    nordic_uart,
    own_firmware,
    oximeter,
    polar,
    thermometer,
)
from firmware_bridge.devices.profile import Advertisement, Offer, Option, OptionValue, Profile, uuid16
from firmware_bridge.devices.session import (
    DeviceRefusedError,
    Emit,
    Heard,
    Link,
    LinkError,
    Notice,
    Session,
)

BUILT_IN: tuple[Profile, ...] = (
    polar.H10,
    polar.VERITY_SENSE,
    polar.OH1,
    movesense.PROFILE,
    heart_rate_strap.PROFILE,
    cgm.PROFILE,
    glucose_meter.PROFILE,
    oximeter.PROFILE,
    thermometer.PROFILE,
    own_firmware.PROFILE,
    nordic_uart.PROFILE,
)
ENTRY_POINTS = "vagus.devices"

log = logging.getLogger(__name__)


@cache
def profiles() -> dict[str, Profile]:
    """All of them by id; a built-in one is never replaced, and a package that is broken costs only what it brings."""
    found = {profile.id: profile for profile in BUILT_IN}
    for point in entry_points(group=ENTRY_POINTS):
        try:
            profile = point.load()
        except Exception as error:  # whatever somebody else's package raises on import
            log.warning("device %r of the package at %s cannot be used: %s", point.name, point.value, error)
            continue
        if not isinstance(profile, Profile):
            log.warning("device %r cannot be used: %s is no Profile", point.name, point.value)
            continue
        found.setdefault(profile.id, profile)
    return found


def recognise(heard: Advertisement) -> list[Profile]:
    """The kinds that a device may be, the likeliest first."""
    fitting = [(profile.score(heard), profile) for profile in profiles().values()]
    return [profile for score, profile in sorted(fitting, key=lambda one: -one[0]) if score]


__all__ = [
    "Advertisement",
    "Arrival",
    "DeviceRefusedError",
    "Emit",
    "Heard",
    "Link",
    "LinkError",
    "Notice",
    "Offer",
    "Option",
    "OptionValue",
    "Profile",
    "Session",
    "profiles",
    "recognise",
    "uuid16",
]
