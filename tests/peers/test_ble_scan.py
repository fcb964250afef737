"""`vagus scan`: what is near by, in words and as lines that a config takes."""

from __future__ import annotations

import argparse
import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("bumble", reason="bumble is not installed")

from agent import scan as scan_module
from agent.config import BleConfig, parse_config
from agent.ingest.ble_bumble import bumble_backend
from agent.ingest.ble_radio import Radio
from agent.scan import Found, config_blocks, in_words, scan
from firmware_bridge.devices import Advertisement, profiles, uuid16
from firmware_bridge.emulator import Air, HeartRateStrap
from firmware_bridge.emulator.peripheral import About
from tests.peers.ble_house import LoopTime, fly

HEART_RATE = frozenset({uuid16(0x180D)})
BEGINNING = '[agent]\nid = "a"\n[[patient]]\nid = "p1"\n'


def found_in(*straps: tuple[str, About]) -> list[Found]:
    """What a scan finds of these."""
    found: list[Found] = []

    async def scenario() -> None:
        air = Air()
        async with AsyncExitStack() as switched_on:
            for address, about in straps:
                await switched_on.enter_async_context(HeartRateStrap(air, address, about, time=LoopTime()))
            found.extend(await scan(Radio("", bumble_backend(air.adapter)), 5.0))

    fly(scenario())
    return found


def sources(blocks: list[str]) -> list[BleConfig]:
    """What a config makes of the blocks."""
    read = parse_config(BEGINNING + "".join(blocks), Path("vagus.toml"), {}).patients[0].sources
    assert all(isinstance(source, BleConfig) for source in read)
    return [source for source in read if isinstance(source, BleConfig)]


def test_what_a_scan_prints_is_a_config() -> None:
    found = found_in(("F0:11:22:33:44:01", About("HRM 1")), ("F0:11:22:33:44:02", About("HRM 2")))
    read = sources(config_blocks(found))
    assert {(one.profile, one.address, one.device) for one in read} == {
        ("heart-rate-strap", "F0:11:22:33:44:01", "heart-rate-strap-4401"),
        ("heart-rate-strap", "F0:11:22:33:44:02", "heart-rate-strap-4402"),
    }


def test_one_of_a_kind_needs_four_lines() -> None:
    (block,) = config_blocks(found_in(("F0:11:22:33:44:01", About("HRM 1"))))
    assert block.splitlines() == [
        "[[patient.source]]", 'type = "ble"', 'profile = "heart-rate-strap"', 'address = "F0:11:22:33:44:01"',
    ]  # fmt: skip


def test_a_person_is_told_what_it_is_and_offers() -> None:
    found = found_in(("F0:11:22:33:44:01", About("HRM \x1b[2J 1")))
    words = in_words(found, config_blocks(found), 5.0)
    assert 'Heart rate strap: "HRM ?[2J 1", F0:11:22:33:44:01, -50 dBm (strong)' in words
    assert profiles()["heart-rate-strap"].words in words
    assert "It sends hr (every 1 s)." in words


def test_nothing_found_says_what_to_do() -> None:
    assert "Nothing that is known here was heard in 5 s." in in_words([], [], 5.0)
    stranger = Found("F0:11:22:33:44:01", Advertisement("?"), -90)
    assert "1 other device was heard." in in_words([stranger], config_blocks([stranger]), 5.0)


@given(st.text(min_size=1, max_size=60), st.booleans())
def test_any_name_makes_a_config_that_can_be_read(name: str, changes_address: bool) -> None:
    name = name.encode(errors="replace").decode(errors="replace")
    strap = Found("40:11:22:33:44:01", Advertisement(name, HEART_RATE), -50, changes_address)
    (read,) = sources(config_blocks([strap]))
    assert (read.name, read.address) == ((name, "") if changes_address else ("", "40:11:22:33:44:01"))


def test_every_kind_that_is_known_can_be_pasted() -> None:
    found = [
        Found(f"F0:11:22:33:44:{number:02X}", Advertisement("", frozenset(profile.services)), -60)
        for number, profile in enumerate(profiles().values())
        if profile.services
    ]
    assert len(sources(config_blocks(found))) == len(found) > 1


def test_the_command_says_why_it_cannot_listen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def unplugged() -> None:
        raise OSError("no such device")

    args = argparse.Namespace(seconds=1.0, adapter=None, json=True)
    monkeypatch.setattr(scan_module, "chosen_backend", lambda *_: bumble_backend(unplugged))
    assert scan_module.scan_command(args) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is False
    assert "no such device" in answer["error"]


def test_a_bad_setting_is_a_fault_of_usage(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("VAGUS_BLUETOOTH", "magic")
    assert scan_module.scan_command(argparse.Namespace(seconds=1.0, adapter=None, json=False)) == 2
    assert "VAGUS_BLUETOOTH" in capsys.readouterr().err
