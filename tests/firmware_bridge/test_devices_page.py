"""docs/devices.md says what the code does, and its example of a device of one's own works."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from firmware_bridge import devices
from firmware_bridge.chunk import CANONICAL_UNIT
from firmware_bridge.devices import Profile, profiles
from firmware_bridge.devices.page import devices_page

ROOT = Path(__file__).resolve().parent.parent.parent

USES_IT = """
import json
from firmware_bridge.devices import Advertisement, Arrival, profiles, recognise
ring = profiles()["my-ring"]
heard = []
stream = ring.offers[0].stream("p1", "ring")
session = ring.open({"hr": stream}, {}, heard.append)
session.notified("b4a1f5d0-0001-4c1e-9d0c-5f2b7a3c1e00", bytes([61]), Arrival(0, 1_795_460_370 * 10**9))
print(json.dumps({
    "recognised": [one.id for one in recognise(Advertisement("Ring", ring.services))],
    "reading": heard[0].chunks[0].samples.tolist(),
    "built_in": len(profiles()) - 1,
}))
"""


def test_the_page_is_what_the_code_says() -> None:
    assert (ROOT / "docs" / "devices.md").read_text() == devices_page(), (
        "write it anew: python -m firmware_bridge.devices.page > docs/devices.md"
    )


def install_the_example(folder: Path) -> None:
    """The page's own example, as pip would leave it."""
    page = devices_page()
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    line = re.search(r'^my-ring = "(.*)"$', page, re.MULTILINE)
    assert code is not None
    assert line is not None
    (folder / "my_ring.py").write_text(code[1])
    info = folder / "my_ring-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-ring\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[vagus.devices]\nmy-ring = {line[1]}\n")


def test_a_device_of_ones_own_is_found_recognised_and_heard(tmp_path: Path) -> None:
    install_the_example(tmp_path)
    result = subprocess.run(
        [sys.executable, "-c", USES_IT],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": ""},
    )
    assert json.loads(result.stdout) == {
        "recognised": ["my-ring"],
        "reading": [[61.0]],
        "built_in": len(devices.BUILT_IN),
    }


def test_a_package_that_is_broken_costs_only_what_it_brings(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = [EntryPoint(name, what, devices.ENTRY_POINTS) for name, what in (("a", "json:dumps"), ("b", "no.such:X"))]
    monkeypatch.setattr(devices, "entry_points", lambda group: broken if group == devices.ENTRY_POINTS else [])
    assert list(profiles.__wrapped__()) == [profile.id for profile in devices.BUILT_IN]
    assert "json:dumps is no Profile" in caplog.text
    assert "No module named 'no'" in caplog.text


@pytest.mark.parametrize("profile", devices.BUILT_IN, ids=lambda profile: profile.id)
def test_every_kind_is_told_apart_and_says_what_it_needs(profile: Profile) -> None:
    assert [one.id for one in devices.BUILT_IN].count(profile.id) == 1
    assert profile.verified
    assert profile.services or profile.name_pattern
    assert profile.services == {uuid.lower() for uuid in profile.services}
    assert any(offer.default for offer in profile.offers)
    names = {option.name for option in profile.options}
    for offer in profile.offers:
        assert offer.kind in CANONICAL_UNIT
        assert bool(offer.rate_hz) != bool(offer.interval_s)
        assert {offer.interval_option, offer.rate_option, offer.channels_option} - {""} <= names
    for option in profile.options:
        assert option.check(option.default) == option.default
