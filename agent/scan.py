"""`vagus scan`: which wearables are near by, what each is and offers, and the lines of config that take it in."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agent.ingest.ble_errors import RadioError
from agent.ingest.ble_radio import Radio, Sighting
from agent.ingest.bluetooth import BluetoothSettingError, chosen_backend
from firmware_bridge.devices import Advertisement, Offer, Profile, recognise

_STRONG_DBM, _WEAK_DBM = -60, -85


@dataclass(frozen=True, slots=True)
class Found:
    """A device that was heard."""

    address: str
    advertisement: Advertisement
    """All that it said in the time."""
    rssi_dbm: int
    changes_address: bool = False
    """Whether its address is one of those that change every few minutes."""

    @property
    def kinds(self) -> list[Profile]:
        """What it may be, the likeliest first; empty where nothing is known of it."""
        return recognise(self.advertisement)

    def after(self, sighting: Sighting) -> Found:
        """With what another packet of it says."""
        before, now = self.advertisement, sighting.advertisement
        told = Advertisement(now.name or before.name, before.services | now.services, before.makers | now.makers)
        return Found(self.address, told, sighting.rssi_dbm, sighting.changes_address)


async def scan(radio: Radio, seconds: float) -> list[Found]:
    """Listen for so long; the strongest first, those that are known before the others. Raises RadioError."""
    found: dict[str, Found] = {}

    def heard(sighting: Sighting) -> None:
        before = found.get(sighting.address) or Found(sighting.address, Advertisement(), sighting.rssi_dbm)
        found[sighting.address] = before.after(sighting)

    try:
        await radio.start_scan(heard)
        await asyncio.sleep(seconds)
    finally:
        await radio.close()
    return sorted(found.values(), key=lambda one: (not one.kinds, -one.rssi_dbm))


def config_blocks(found: Sequence[Found]) -> list[str]:
    """What each has to stand in a config as, if its kind is known, else ""; several of a kind are called apart."""
    kinds = Counter(one.kinds[0].id for one in found if one.kinds)
    names = Counter(one.advertisement.name for one in found)
    return [_block(one, apart=kinds[one.kinds[0].id] > 1, names=names) if one.kinds else "" for one in found]


def _block(found: Found, *, apart: bool, names: Counter[str]) -> str:
    profile, name = found.kinds[0], found.advertisement.name
    lines = ["[[patient.source]]", 'type = "ble"', f'profile = "{profile.id}"']
    if apart:
        lines.append(f'device = "{profile.id}-{found.address.replace(":", "")[-4:].lower()}"')
    if found.changes_address and names[name] == 1 and name:
        lines.append(f"name = {_toml(name)}")
    else:
        lines.append(f'address = "{found.address}"')
    return "\n".join(lines) + "\n"


def _toml(text: str) -> str:
    """A TOML string; JSON escapes the same, but for the one character that only TOML forbids."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def scan_command(args: argparse.Namespace) -> int:
    """`vagus scan [--seconds S] [--adapter NAME] [--json]`: 0 when it could listen, else 1; 2 for a bad setting."""
    try:
        radio = Radio(args.adapter or "", chosen_backend([], None))
        found = asyncio.run(scan(radio, args.seconds))
    except (RadioError, BluetoothSettingError) as error:
        where = radio.name if isinstance(error, RadioError) else "VAGUS_BLUETOOTH"
        if args.json:
            sys.stdout.write(json.dumps({"ok": False, "error": f"{where}: {error}"}) + "\n")
        else:
            sys.stderr.write(f"vagus scan: {where}: {error}\nSee: vagus doctor\n")
        return 1 if isinstance(error, RadioError) else 2
    blocks = config_blocks(found)
    if args.json:
        devices = [_as_json(one, block) for one, block in zip(found, blocks, strict=True)]
        sys.stdout.write(json.dumps({"ok": True, "devices": devices}) + "\n")
    else:
        sys.stdout.write(in_words(found, blocks, args.seconds))
    return 0


def in_words(found: Sequence[Found], blocks: Sequence[str], seconds: float) -> str:
    """What a person is told."""
    parts = [f"{_described(one)}\n\n{block}" for one, block in zip(found, blocks, strict=True) if block]
    others = len(found) - len(parts)
    if parts:
        parts.append("Paste what you want below a [[patient]] of your config, then: vagus check CONFIG")
    else:
        parts.append(f"Nothing that is known here was heard in {seconds:g} s.")
        parts.append(
            "Wear it or wake it, bring it near, and end its connection to a phone: connected, it is not heard."
        )
    if others:
        parts.append(f"{others} other device{'s were' if others > 1 else ' was'} heard.")
    return "\n".join(parts) + "\n"


def _described(found: Found) -> str:
    profile, *others = found.kinds
    lines = [
        f'{profile.name}: "{printable(found.advertisement.name)}", {found.address}, {_strength(found.rssi_dbm)}',
        f"  {profile.words}",
        f"  It sends {'; '.join(_offered(offer) for offer in profile.offers)}.",
    ]
    if profile.bonds:
        lines.append("  It has to be paired: put it into pairing mode when the agent is started.")
    if others:
        lines.append(f"  It may also be taken as: {', '.join(other.id for other in others)}.")
    return "\n".join(lines)


def _offered(offer: Offer) -> str:
    often = f"{offer.rate_hz:g} Hz" if offer.rate_hz else f"every {offer.interval_s:g} s" if offer.interval_s else ""
    more = "" if offer.default else "only where streams names it"
    inside = ", ".join(filter(None, (often, more)))
    return f"{offer.channel} ({inside})" if inside else offer.channel


def _strength(rssi_dbm: int) -> str:
    words = "strong" if rssi_dbm >= _STRONG_DBM else "weak" if rssi_dbm <= _WEAK_DBM else "good"
    return f"{rssi_dbm} dBm ({words})"


def printable(text: str) -> str:
    """A name from the air, which may hold anything, without what could move a terminal's cursor."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _as_json(found: Found, block: str) -> dict[str, Any]:
    return {
        "address": found.address,
        "name": found.advertisement.name,
        "rssi_dbm": found.rssi_dbm,
        "services": sorted(found.advertisement.services),
        "kinds": [
            {"profile": kind.id, "name": kind.name, "words": kind.words, "streams": [o.channel for o in kind.offers]}
            for kind in found.kinds
        ],
        "config": block,
    }
