"""docs/devices.md, written from the kinds of device themselves (`python -m firmware_bridge.devices.page`)."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from firmware_bridge.devices import BUILT_IN
from firmware_bridge.devices.profile import Offer, Option, Profile

_INTRODUCTION = """\
# The devices

Every kind of wearable that can be spoken with, by the name that a config calls it
(`[[patient.source]]`, `type = "ble"`, `profile = "polar-h10"`; [Bluetooth](bluetooth.md), [the config](config.md)).
`vagus scan` says which of them is near.

This page is written by `python -m firmware_bridge.devices.page`; what it says stands in `firmware_bridge/devices/`.
"""

_VERIFIED = """\
"Worked bytes" are examples whose bytes and meaning were both known before the code was written; the tests hold the code
to them. † is from the maker's or the profile's own description, without such an example: nobody has heard a real device
through it yet, so look twice at the first readings. None of it is a medical device.
"""

_HOW_TO_ADD = '''\
## How to add a device

One file and one line of packaging; nothing here is changed. The file names what the device is and speaks with it. It
knows bytes and their order, and nothing of radios or clocks: reading, writing and subscribing go through the `Link`
that it is given, and every wait on it is bounded. `notified` is called with what comes, and may raise nothing but
`DecodeError`, whatever the bytes. A session lives as long as the agent; `start` is called on every connection.

```python
"""A ring that notifies the heart rate, one byte each time."""

import numpy as np

from firmware_bridge.chunk import DecodeError
from firmware_bridge.devices import Heard, Offer, Profile
from firmware_bridge.plausible import to_chunk

SERVICE = "b4a1f5d0-0000-4c1e-9d0c-5f2b7a3c1e00"
RATE = "b4a1f5d0-0001-4c1e-9d0c-5f2b7a3c1e00"


class RingSession:
    def __init__(self, streams, options, emit):
        self._stream, self._emit = streams["hr"], emit

    async def start(self, link):
        await link.subscribe(RATE)

    async def tend(self, link):
        """Nothing to do."""

    def notified(self, characteristic, data, arrival):
        if len(data) != 1:
            raise DecodeError(f"{len(data)} bytes, expected 1", 0)
        self._emit(Heard((to_chunk(self._stream, arrival.utc_ns, np.array([[data[0]]])),)))

    async def stop(self, link):
        """Nothing to do."""


PROFILE = Profile(
    id="my-ring",
    name="My ring",
    words="A ring: the heart rate every ten seconds.",
    offers=(Offer("hr", "hr", interval_s=10.0),),
    open=RingSession,
    services=frozenset({SERVICE}),
    characteristics=frozenset({RATE}),
)
```

The line, in that package's `pyproject.toml`:

```toml
[project.entry-points."vagus.devices"]
my-ring = "my_ring:PROFILE"
```

Installed beside vagus, `vagus scan` names it, `vagus check` knows `profile = "my-ring"`, and the agent listens to it.
For a stream that carries the device's own time and no counter there is `firmware_bridge.devices.continuity`; for one
that counts its packets, hand the count on as the chunk's `seq`. A device of the project itself is the same file in
`firmware_bridge/devices/` and one line in `BUILT_IN`.
'''

MAX_CHOICES = 12


def devices_page() -> str:
    """The whole page, in Markdown."""
    rows = [f"| `{one.id}` | {one.name} | {_offered(one.offers)} | {one.verified} |" for one in BUILT_IN]
    table = ["| profile | device | streams | checked against |", "|---|---|---|---|", *rows]
    sections = [_section(profile) for profile in BUILT_IN]
    return "\n".join([_INTRODUCTION, *table, "", _VERIFIED, *sections, _HOW_TO_ADD])


def _offered(offers: Iterable[Offer]) -> str:
    usual = ", ".join(f"`{offer.channel}`" for offer in offers if offer.default)
    others = ", ".join(f"`{offer.channel}`" for offer in offers if not offer.default)
    return f"{usual}; where asked for {others}" if others else usual


def _section(profile: Profile) -> str:
    lines = [f"## `{profile.id}`: {profile.name}", "", profile.words, ""]
    lines += ["| stream | kind | comes | columns | taken |", "|---|---|---|---|---|"]
    lines += [_row(offer) for offer in profile.offers]
    facts = ["It has to be paired."] if profile.bonds else []
    if profile.min_mtu > 23:
        facts.append(f"Its link has to carry packets of {profile.min_mtu} bytes (ATT MTU), as nearly every one does.")
    if profile.name_pattern:
        facts.append(f"It is known by its name (`{profile.name_pattern}`).")
    if facts:
        lines += ["", " ".join(facts)]
    if profile.options:
        lines += ["", "| option | default | meaning |", "|---|---|---|"]
        lines += [f"| `{one.name}` | `{_toml(one.default)}` | {one.words}{_choices(one)} |" for one in profile.options]
    return "\n".join(lines) + "\n"


def _row(offer: Offer) -> str:
    comes = f"{offer.rate_hz:g} Hz" if offer.rate_hz else f"about every {_duration(offer.interval_s)}"
    columns = ", ".join(name for name in offer.channels if name)
    taken = "by default" if offer.default else "where asked for"
    return f"| `{offer.channel}` | {offer.kind} | {comes} | {columns} | {taken} |"


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def _choices(option: Option) -> str:
    shown = [f"`{_toml(choice)}`" for choice in option.choices]
    if len(shown) > MAX_CHOICES:
        shown[3:-1] = ["…"]
    return f" One of {', '.join(shown)}." if shown else ""


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else f"{value:g}"


if __name__ == "__main__":
    sys.stdout.write(devices_page())
