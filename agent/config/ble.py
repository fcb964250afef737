"""A wearable over Bluetooth as the config says it: [[patient.source]] with type = "ble"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from agent.config.faults import did_you_mean, shown
from agent.config.lines import Path as KeyPath
from agent.config.reader import TableReader
from agent.config.source_schema import BleSourceTable
from firmware_bridge.chunk import Stream
from firmware_bridge.devices import Offer, OptionValue, Profile, profiles


@dataclass(frozen=True, slots=True)
class BleConfig:
    """[[patient.source]] type = "ble"."""

    patient: str
    device: str
    profile: str
    """The id of one of firmware_bridge.devices.profiles()."""
    streams: tuple[Stream, ...]
    """At least one, each of an Offer of the profile and called like it."""
    address: str = ""
    """In upper case; empty: it is known by `name`."""
    name: str = ""
    adapter: str = ""
    """Empty: the first one."""
    options: Mapping[str, OptionValue] = field(default_factory=dict)
    """Every Option of the profile."""
    pair_s: float = 600.0
    """Seconds after the start in which it may be paired."""
    passkey: int | None = field(default=None, repr=False)
    format: Literal["cbor"] = "cbor"
    """Of what the journal keeps."""


def read_ble(read: TableReader, table: BleSourceTable, path: KeyPath, patient: str) -> BleConfig | None:
    """What a table says of one wearable; None, with the faults noted, where it cannot be."""
    noted = len(read.faults)
    if table.address is None and table.name is None:
        read.fault((*path, "address"), "or name is required", "`vagus scan` shows the devices near by with both")
    passkey = _passkey(read, table, path)
    profile = profiles().get(table.profile)
    if profile is None:
        message = f"{shown(table.profile)} is no kind of device that is known here"
        read.fault((*path, "profile"), message, did_you_mean(table.profile, profiles()))
        return None
    device = table.device or profile.id
    options = _options(read, profile, table, path)
    streams = tuple(offer.stream(patient, device, options) for offer in _wanted(read, profile, table, path))
    if len(read.faults) > noted:
        return None
    return BleConfig(
        patient,
        device,
        profile.id,
        streams,
        table.address or "",
        table.name or "",
        table.adapter or "",
        options,
        60 * table.pair_min,
        passkey,
    )


def _wanted(read: TableReader, profile: Profile, table: BleSourceTable, path: KeyPath) -> list[Offer]:
    """The streams wanted, in the order in which they are offered."""
    offered = {offer.channel: offer for offer in profile.offers}
    for place, channel in enumerate(table.streams or ()):
        if channel not in offered:
            message = f"{shown(channel)} is no stream of {shown(profile.id)}"
            read.fault((*path, "streams", place), message, did_you_mean(channel, offered))
    return [
        offer
        for channel, offer in offered.items()
        if (offer.default if table.streams is None else channel in table.streams)
    ]


def _options(read: TableReader, profile: Profile, table: BleSourceTable, path: KeyPath) -> dict[str, OptionValue]:
    known = {option.name: option for option in profile.options}
    options = {option.name: option.default for option in profile.options}
    for key, value in (table.options or {}).items():
        if key not in known:
            message = f"{shown(key)} is no option of {shown(profile.id)}"
            read.fault((*path, "options", key), message, did_you_mean(key, known) or "it has none")
            continue
        try:
            options[key] = known[key].check(value)
        except ValueError as error:
            read.fault((*path, "options", key), f"{error}, got {shown(value)}", known[key].words)
    return options


def _passkey(read: TableReader, table: BleSourceTable, path: KeyPath) -> int | None:
    place = (*path, "passkey_file")
    file = read.readable(table.passkey_file, place)
    text = None if file is None else read.first_line(file, place, "passkey")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) == 6):
        read.fault(place, "does not hold 6 digits", "write the passkey printed on the device, such as 012345")
        return None
    return int(text)
