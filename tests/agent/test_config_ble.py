"""A wearable in the config: eight lines for one person, and every mistake told with its line."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

from agent.config import BleConfig, Config, ConfigError, parse_config, streams
from firmware_bridge.devices import Emit, Offer, Option, OptionValue, Profile, Session

EIGHT_LINES = """\
[agent]
id = "home-1"
[[patient]]
id = "p1"
[[patient.source]]
type = "ble"
profile = "test-belt"
address = "a0:9e:1a:12:34:56"
"""


def _open(_streams: object, _options: Mapping[str, OptionValue], _emit: Emit) -> Session:
    raise NotImplementedError


BELT = Profile(
    "test-belt",
    "Test belt",
    "A chest belt.",
    (Offer("ecg", "ecg", rate_hz=130.0), Offer("acc", "acc", 50.0, channels=("x", "y", "z"), default=False)),
    _open,
    options=(Option("gain", 1, "how loud", (1, 2)),),
)


@pytest.fixture(autouse=True)
def _one_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "all_kinds" in request.fixturenames:
        return
    monkeypatch.setattr("agent.config.ble.profiles", lambda: {BELT.id: BELT})


def read(text: str, folder: Path = Path()) -> Config:
    return parse_config(text, folder / "vagus.toml", {})


def faults(text: str, folder: Path = Path()) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text, folder)
    return [str(fault) for fault in caught.value.faults]


def only(config: Config) -> BleConfig:
    (source,) = config.patients[0].sources
    assert isinstance(source, BleConfig)
    return source


def test_eight_lines_are_enough_for_one_person() -> None:
    assert len(EIGHT_LINES.splitlines()) == 8
    config = read(EIGHT_LINES)
    source = only(config)
    assert (source.address, source.device, source.options) == ("A0:9E:1A:12:34:56", "test-belt", {"gain": 1})
    assert {place: stream.key for place, (stream, _) in streams(config).items()} == {
        ("test-belt", "ecg"): "p1/test-belt/ecg"
    }


def test_streams_and_options_may_be_chosen() -> None:
    more = 'device = "belt-1"\nstreams = ["acc", "ecg"]\noptions = { gain = 2 }\nadapter = "hci1"\npair_min = 0\n'
    source = only(read(EIGHT_LINES + more))
    assert [stream.key for stream in source.streams] == ["p1/belt-1/ecg", "p1/belt-1/acc"]
    assert (source.options, source.adapter, source.pair_s) == ({"gain": 2}, "hci1", 0)


def test_a_device_may_be_known_by_its_name_alone() -> None:
    source = only(read(EIGHT_LINES.replace('address = "a0:9e:1a:12:34:56"', 'name = "Belt 7"')))
    assert (source.address, source.name) == ("", "Belt 7")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("test-belt", "test-bolt"), 'did you mean "test-belt"?'),
        (('address = "a0:9e:1a:12:34:56"', ""), "or name is required"),
        (("a0:9e:1a:12:34:56", "a09e1a123456"), "A0:9E:1A:12:34:56"),
        (("56", '56"\nstreams = ["egc'), 'did you mean "ecg"?'),
        (("56", '56"\nadapter = "usb'), "hci0"),
    ],
)
def test_a_mistake_is_told_with_what_to_write(change: tuple[str, str], said: str) -> None:
    text = EIGHT_LINES.replace(*change).replace('["egc"', '["egc"]')
    (fault,) = faults(text)
    assert said in fault


def test_an_option_is_checked_by_its_kind() -> None:
    assert 'did you mean "gain"?' in faults(EIGHT_LINES + "options = { gian = 2 }\n")[0]
    assert "gain must be one of 1, 2, got 3" in faults(EIGHT_LINES + "options = { gain = 3 }\n")[0]


def test_one_device_is_worn_by_one_person_only() -> None:
    second = EIGHT_LINES.partition("[[patient]]")[2].replace("p1", "p2").replace("profile", 'device = "b"\nprofile')
    (fault,) = faults(EIGHT_LINES + "[[patient]]" + second)
    assert "already the source on line 8" in fault


def test_two_devices_of_a_kind_need_names_of_their_own() -> None:
    source = EIGHT_LINES.partition("[[patient.source]]")[2].replace("56", "57")
    (fault,) = faults(EIGHT_LINES + "[[patient.source]]" + source)
    assert 'device "test-belt", channel "ecg" is already the source' in fault


def test_a_passkey_stands_in_a_file_and_shows_nowhere(tmp_path: Path) -> None:
    (tmp_path / "passkey").write_text("012345\n")
    source = only(read(EIGHT_LINES + 'passkey_file = "passkey"\n', tmp_path))
    assert source.passkey == 12345
    assert "12345" not in repr(source).replace(source.address, "")
    (tmp_path / "passkey").write_text("sesame\n")
    assert "does not hold 6 digits" in faults(EIGHT_LINES + 'passkey_file = "passkey"\n', tmp_path)[0]


@pytest.fixture
def all_kinds() -> None:
    """The kinds that ship, instead of the one kind of these tests."""


@pytest.mark.usefixtures("all_kinds")
def test_what_the_documentation_tells_to_write_is_a_config() -> None:
    page = (Path(__file__).parents[2] / "docs" / "bluetooth.md").read_text()
    blocks = [textwrap.dedent(block) for block in re.findall(r" *```toml\n(.*?)```", page, re.DOTALL)]
    whole = [block for block in blocks if block.startswith("[agent]")]
    assert len(whole) == 1
    assert len(whole[0].splitlines()) == 8
    for block in blocks:
        read(block if block in whole else '[agent]\nid = "a"\n[[patient]]\nid = "p"\n' + block)
