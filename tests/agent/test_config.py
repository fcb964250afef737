"""The config: what a good one becomes, and that a bad one says every fault with its line and key."""

import argparse
import json
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.alarms.limits import ALWAYS_ON, BOUNDS, DEFAULTS, RULES, Limits
from agent.config import (
    Config,
    ConfigError,
    Fault,
    MqttSource,
    WfdbSource,
    check_command,
    load_config,
    parse_config,
    streams,
)
from agent.config.limit_schema import LIMITS
from agent.config.page import config_page
from agent.config.schema import Format, Kind
from firmware_bridge.chunk import CANONICAL_UNIT
from firmware_bridge.codecs import FORMATS

GOOD = """\
[agent]
id = "bedside-1"
[mqtt]
host = "broker.local"
[[patient]]
id = "p1"
[[patient.source]]
type = "mqtt"
device = "patch-7"
channel = "ecg"
kind = "ecg"
rate_hz = 250
"""


CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIUdUG7EWYE0E28xzi6rxgcLgymD5wwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMzIyMjYyM1oYDzIxMjYxMDMw
MjIyNjIzWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASxcTGJT5RjWSDONZfWS2ZpsFIvOEXyWorYXkoKHKqUCXo0N8bxzNZX
z9g8s1J70ez1AC1o7QgukYf5YF7oGGr7o28wbTAdBgNVHQ4EFgQUvMb4L5ZzoBSr
bej4Aw0cLG75JrAwHwYDVR0jBBgwFoAUvMb4L5ZzoBSrbej4Aw0cLG75JrAwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSAAwRQIgDqWwVwS4i4XMlRI28F9P0BlGqmyaui4oxcrTa+mLxRsCIQC1
sVdRtAadyG010f8jKDu7rAk5mgRnBX4NsML3Q8/a/g==
-----END CERTIFICATE-----
"""
"""Self-signed, for "localhost"; its key was thrown away."""

SECRET = "hunter2"  # noqa: S105 - what must never be shown


def read(text: str, folder: Path = Path("/etc/vagus"), environ: dict[str, str] | None = None) -> Config:
    return parse_config(text, folder / "v.toml", {"HOME": "/root"} if environ is None else environ)


def faults(
    text: str, folder: Path = Path("/etc/vagus"), environ: dict[str, str] | None = None
) -> list[tuple[int, str, str]]:
    with pytest.raises(ConfigError) as caught:
        read(text, folder, environ)
    return [(fault.line, fault.key, f"{fault.message} — {fault.suggestion}") for fault in caught.value.faults]


def one_fault(text: str, **where: object) -> tuple[int, str, str]:
    found = faults(text, **where)  # type: ignore[arg-type]
    assert len(found) == 1, found
    return found[0]


def source(extra: str) -> str:
    """GOOD with `extra` below its source, whose first line is 13."""
    return GOOD + extra


def test_a_small_config_has_sensible_defaults() -> None:
    config = read(GOOD, environ={"STATE_DIRECTORY": "/var/lib/vagus:/var/lib/other"})

    assert config.agent.state_dir == Path("/var/lib/vagus")
    assert (config.agent.time, config.agent.mains_hz, config.agent.late_after_s) == ("wall", 50, 30)
    assert (config.mqtt.port, config.mqtt.tls, config.mqtt.client_id) == (1883, False, "vagus-bedside-1")
    assert config.patients[0].limits == Limits()
    assert config.outbox.max_mb == 256
    assert (config.history.days, config.history.max_mb) == (90, 1024)


def test_streams_are_found_by_topic() -> None:
    (stream, payload_format) = streams(read(GOOD))["patch-7", "ecg"]

    assert (stream.patient, stream.kind, stream.unit, stream.rate_hz) == ("p1", "ecg", "mV", 250.0)
    assert payload_format == "auto"


def test_single_readings_have_an_interval_instead_of_a_rate() -> None:
    text = GOOD.replace('kind = "ecg"', 'kind = "cgm"\nunit = "mmol/L"').replace("rate_hz = 250", "interval_s = 300")

    (only,) = read(text).patients[0].sources

    assert isinstance(only, MqttSource)
    assert (only.stream.rate_hz, only.stream.interval_s) == (0.0, 300.0)
    assert (only.stream.unit, only.stream.sent_unit) == ("mg/dL", "mmol/L")


def test_a_recording_is_found_beside_the_config(tmp_path: Path) -> None:
    (tmp_path / "118.hea").write_text("118 2 360 650000\n")
    text = '[agent]\nid = "a"\ntime = "stream"\n[[patient]]\nid = "p"\n'
    text += '[[patient.source]]\ntype = "wfdb"\npath = "118"\nspeed = 0\n'

    assert read(text, tmp_path).patients[0].sources == (WfdbSource(tmp_path / "118", 0.0),)
    assert one_fault(text.replace("118", "119"), folder=tmp_path)[:2] == (8, "patient[0].source[0].path")


def test_limits_of_one_person() -> None:
    config = read(
        GOOD
        + '[[patient.limit]]\nrule = "bradycardia"\nbelow_bpm = 35\n'
        + '[[patient.limit]]\nrule = "ventricular_tachycardia"\nbeats = 3\nabove_bpm = 120\n'
        + '[[patient.limit]]\nrule = "ventricular_bigeminy"\nenabled = false\n'
    )
    limits = config.patients[0].limits

    assert limits == Limits(
        bradycardia_below_bpm=35,
        ventricular_tachycardia_beats=3,
        ventricular_tachycardia_above_bpm=120,
        disabled=frozenset({"ventricular_bigeminy"}),
    )
    assert limits.enabled("pause")
    assert not limits.enabled("ventricular_bigeminy")


@pytest.mark.parametrize("rule", sorted(ALWAYS_ON))
def test_an_alarm_of_high_priority_cannot_be_switched_off(rule: str) -> None:
    line, key, message = one_fault(GOOD + f'[[patient.limit]]\nrule = "{rule}"\nenabled = false\n')

    assert (line, key) == (15, "patient[0].limit[0].enabled")
    assert "cannot be switched off" in message
    assert Limits(disabled=frozenset({rule})).enabled(rule)


@pytest.mark.parametrize("field", sorted(BOUNDS))
@pytest.mark.parametrize("end", ["low", "high"])
def test_no_limit_leaves_its_bounds(field: str, end: str) -> None:
    rule = max((rule for rule in RULES if field.startswith(rule)), key=len)
    key = field.removeprefix(f"{rule}_")
    bound = int(getattr(BOUNDS[field], end))
    text = GOOD + f'[[patient.limit]]\nrule = "{rule}"\n{key} = '

    assert getattr(read(text + f"{bound}\n").patients[0].limits, field) == bound
    line, where, message = one_fault(text + f"{bound + (1 if end == 'high' else -1)}\n")
    assert (line, where) == (15, f"patient[0].limit[0].{key}")
    assert f"from {BOUNDS[field].low:g} to {BOUNDS[field].high:g}" in message


def test_every_rule_can_be_limited_and_every_default_lies_within_bounds() -> None:
    assert tuple(LIMITS) == RULES
    assert set(DEFAULTS) == set(BOUNDS)
    assert all(BOUNDS[name].low <= value <= BOUNDS[name].high for name, value in DEFAULTS.items())


def test_every_fault_is_said_at_once_in_the_order_of_the_lines() -> None:
    found = faults(
        '[agent]\nid = "bed 1"\nmains_hz = 55\n[mqtt]\nhots = "x"\nport = "1883"\n'
        '[[patient]]\nid = "p"\n[[patient.source]]\ntype = "mqtt"\ndevice = "d"\nchannel = "c"\n'
        'kind = "ekg"\nrate_hz = 9999\n'
    )

    assert [(line, key) for line, key, _ in found] == [
        (2, "agent.id"),
        (3, "agent.mains_hz"),
        (5, "mqtt.hots"),
        (6, "mqtt.port"),
        (13, "patient[0].source[0].kind"),
        (14, "patient[0].source[0].rate_hz"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "said"),
    [
        ('id = "bedside-1"', "", 1, "agent.id", "is required"),
        ('id = "bedside-1"', 'id = "in"', 2, "agent.id", "topic level"),
        ('id = "bedside-1"', 'id = "a/b"', 2, "agent.id", "letters"),
        ('host = "broker.local"', "port = 0", 4, "mqtt.port", "from 1 to 65535"),
        ('host = "broker.local"', 'host = "mqtt://b"', 4, "mqtt.host", "without mqtt://"),
        ('host = "broker.local"', 'host = "b:1883"', 4, "mqtt.host", "key of its own"),
        ('host = "broker.local"', 'user_name = "u"', 4, "mqtt.user_name", 'did you mean "username"?'),
        ('host = "broker.local"', "port = 1883.0", 4, "mqtt.port", "expected a whole number"),
        ('host = "broker.local"', 'tls = "yes"', 4, "mqtt.tls", "expected true or false"),
        ('host = "broker.local"', 'key_file = "/etc/hostname"', 4, "mqtt.key_file", "without cert_file"),
        ('host = "broker.local"', 'ca_file = "none.pem"', 4, "mqtt.ca_file", "No such file"),
        ('host = "broker.local"', 'password_file = "none"', 4, "mqtt.password_file", "No such file"),
        ('host = "broker.local"', 'ca_file = "/etc"', 4, "mqtt.ca_file", "not a file"),
        ("[mqtt]", "[mqqt]", 3, "mqqt", 'did you mean "mqtt"?'),
        ("[mqtt]", "[[mqtt]]", 3, "mqtt", "single brackets"),
        ("rate_hz = 250", "rate_hz = nan", 12, "patient[0].source[0].rate_hz", "finite"),
        ("rate_hz = 250", "", 7, "patient[0].source[0].rate_hz", "is required"),
        ("rate_hz = 250", "interval_s = 60", 7, "patient[0].source[0].rate_hz", "is required"),
        ("rate_hz = 250", "rate_hz = 250\ninterval_s = 1", 13, "patient[0].source[0].interval_s", "beside rate_hz"),
        ('kind = "ecg"', 'kind = "ecg"\nunit = "mv"', 12, "patient[0].source[0].unit", 'did you mean "mV"?'),
        ('kind = "ecg"', 'kind = "ecg"\nchannels = ["I", "I"]', 12, "patient[0].source[0].channels", "twice"),
        ('kind = "ecg"', 'kind = "ecg"\nchannels = [\n"I",\n2]', 14, "patient[0].source[0].channels[1]", "text"),
        ('kind = "ecg"', 'kind = "ecg"\nformat = "nightscout"', 12, "patient[0].source[0].format", "glucose"),
        ('kind = "ecg"', 'kind = "ekg"', 11, "patient[0].source[0].kind", 'did you mean "ecg"?'),
        ('kind = "ecg"', 'kind = "ecg"\nformat = "xml"', 12, "patient[0].source[0].format", '"senml"'),
        ('type = "mqtt"', 'type = "mqqt"', 8, "patient[0].source[0].type", 'did you mean "mqtt"?'),
        ('type = "mqtt"', "", 7, "patient[0].source[0].type", "is required"),
        ("[[patient.source]]", "[patient.source]", 7, "patient[0].source", "double brackets"),
    ],
)
def test_one_slip_gives_one_fault_at_its_line(old: str, new: str, line: int, key: str, said: str) -> None:
    found = one_fault(GOOD.replace(old, new))

    assert found[:2] == (line, key)
    assert said in found[2]


@pytest.mark.parametrize("key", ["password", "Password", "passwd"])
def test_a_password_in_the_config_is_refused_and_never_repeated(key: str) -> None:
    line, where, message = one_fault(GOOD.replace('host = "broker.local"', f'{key} = "hunter2"'))

    assert (line, where) == (4, f"mqtt.{key}")
    assert "password_file" in message
    assert "hunter2" not in message


def test_the_password_comes_from_its_file_or_the_environment_and_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    by_name = GOOD.replace('host = "broker.local"', 'username = "u"')
    by_file = by_name.replace('username = "u"', 'username = "u"\npassword_file = "secret"')

    assert read(by_file, tmp_path, {"VAGUS_MQTT_PASSWORD": "other"}).mqtt.password == SECRET
    from_environment = read(by_name, tmp_path, {"VAGUS_MQTT_PASSWORD": SECRET})
    assert from_environment.mqtt.password == SECRET
    assert SECRET not in repr(from_environment)
    assert read(by_name, tmp_path, {}).mqtt.password is None


@pytest.mark.parametrize("content", [b"", b"\nhunter2", b"\xff\xfe"])
def test_a_password_file_without_a_password_is_a_fault(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secret").write_bytes(content)

    text = GOOD.replace('host = "broker.local"', 'username = "u"\npassword_file = "secret"')

    assert one_fault(text, folder=tmp_path)[:2] == (5, "mqtt.password_file")


def test_a_certificate_authority_turns_tls_on(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(CERTIFICATE)
    text = GOOD.replace('host = "broker.local"', 'ca_file = "ca.pem"')

    mqtt = read(text, tmp_path).mqtt

    assert (mqtt.tls, mqtt.port, mqtt.ca_file) == (True, 8883, tmp_path / "ca.pem")
    assert one_fault(text.replace("ca_file", "tls = false\nca_file"), folder=tmp_path)[:2] == (4, "mqtt.tls")


def test_a_file_without_a_certificate_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    (tmp_path / "own.pem").write_text(CERTIFICATE)
    text = GOOD.replace('host = "broker.local"', 'ca_file = "empty.pem"')

    assert "no PEM certificate" in one_fault(text, folder=tmp_path)[2]
    assert "its key is missing" in one_fault(text.replace('ca_file = "empty', 'cert_file = "own'), folder=tmp_path)[2]


def test_duplicates_name_both_lines() -> None:
    again = GOOD[GOOD.index("[[patient]]") :]

    found = faults(GOOD + "\n" + again + '[[patient.limit]]\nrule = "pause"\n[[patient.limit]]\nrule = "pause"\n')

    assert [(line, key) for line, key, _ in found] == [
        (15, "patient[1].id"),
        (18, "patient[1].source[0].device"),
        (25, "patient[1].limit[1].rule"),
    ]
    assert "line 6" in found[0][2]
    assert "line 9" in found[1][2]
    assert "line 23" in found[2][2]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ('[agent]\nid = "a\n', 2, "not TOML"),
        ("[agent]\nid\n", 2, "not TOML"),
        ('[agent]\nid = "a"\nid = "b"\n', 3, "not TOML"),
        ("[agent]\nx = [1,\n2", 3, "end of the file"),
        ("a = " + "[" * 5000 + "\n", 1, "nests deeper"),
        ("a = " + "9" * 5000 + "\n", 1, "not TOML"),
    ],
)
def test_text_that_is_not_toml_is_one_fault(text: str, line: int, said: str) -> None:
    found = one_fault(text)

    assert found[:2] == (line, "")
    assert said in found[2]


def test_bytes_that_are_not_utf8_are_one_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"v\.toml:2: is not UTF-8"):
        parse_config(b'[agent]\nid = "\xe9"\n', tmp_path / "v.toml")


def test_a_byte_order_mark_is_no_fault() -> None:
    assert parse_config(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode(), Path("v.toml"), {"HOME": "/"}).patients


def test_a_missing_config_is_one_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "none.toml")


def test_an_empty_config_says_what_it_lacks() -> None:
    assert [key for _, key, _ in faults("")] == ["agent", "patient"]
    assert one_fault('[agent]\nid = "a"\n[[patient]]\nid = "p"\n')[1] == "patient[0].source"


def test_a_message_cannot_move_the_readers_cursor() -> None:
    found = one_fault(GOOD + '"\\u001b[2J\\nx" = 1\n')

    assert found[2].isprintable()
    assert found[1].isprintable()


def test_check_says_each_fault_on_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "v.toml"
    file.write_text(GOOD.replace("host", "hosst"))

    assert check_command(argparse.Namespace(config=str(file), json=False)) == 2
    assert capsys.readouterr().out == f'{file}:4: mqtt.hosst: unknown key "hosst" — did you mean "host"?\n'

    assert check_command(argparse.Namespace(config=str(file), json=True)) == 2
    assert json.loads(capsys.readouterr().out)["faults"][0]["line"] == 4


def test_check_of_a_good_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "v.toml"
    file.write_text(GOOD)

    assert check_command(argparse.Namespace(config=str(file), json=True)) == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "agent": "bedside-1", "patients": 1, "streams": 1}


def test_the_page_on_the_config_is_current() -> None:
    page = Path(__file__).parents[2] / "docs" / "config.md"

    assert page.read_text() == config_page(), "run: python -m agent.config.page > docs/config.md"


@pytest.mark.parametrize("name", ["one-person.toml", "ward.toml", "wearables.toml"])
def test_the_examples_are_good(name: str) -> None:
    config = load_config(Path(__file__).parents[2] / "examples" / name, {"HOME": "/root"})

    assert len(streams(config)) >= len(config.patients)


def test_formats_and_kinds_are_those_the_codecs_have() -> None:
    assert set(get_args(Format)) == set(FORMATS)
    assert set(get_args(Kind)) == set(CANONICAL_UNIT)


PIECES = (
    "[agent] [mqtt] [[patient]] [[patient.source]] [[patient.limit]] [outbox] [history] patient.limit [x.y] id type "
    "device days channel kind unit rate_hz rule enabled beats port max_mb path state_dir password_file host channels "
    "from to timezone sensor_started lifetime_days "
    '= = = = = { } [ ] , . # "mqtt" "wfdb" "p" "ecg" "pause" "asystole" "low" "22:00" "~x/y" "\\u0000" """ '
    "''' \\ 0x1F 1 -1 1e400 nan inf true 2020-01-01 2020-01-01T00:00:00 07:00:00"
)
WORDS = st.sampled_from([*PIECES.split(), *["\n"] * 8, "9" * 400, '"' + "a" * 300 + '"'])


def faults_if_any(text: str | bytes) -> tuple[Fault, ...]:
    try:
        parse_config(text, Path("/nowhere/v.toml"), {})
    except ConfigError as error:
        return error.faults or (Fault("", 0, "", "a ConfigError without a fault"),)
    return ()


@given(st.one_of(st.text(), st.lists(WORDS, max_size=40).map(" ".join), st.binary()))
def test_any_text_is_a_config_or_a_config_error(text: str | bytes) -> None:
    assert all(fault.line >= 1 and fault.message for fault in faults_if_any(text))


VALUES = st.recursive(
    st.one_of(
        st.booleans(), st.integers(-(10**400), 10**400).map(str), st.floats(), st.text(max_size=8).map(json.dumps)
    ),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@given(st.data())
def test_any_value_at_any_key_is_a_config_or_a_config_error(data: st.DataObject) -> None:
    lines = GOOD.splitlines()
    place = data.draw(st.sampled_from([n for n, line in enumerate(lines) if "=" in line]))
    value = str(data.draw(VALUES)).replace("True", "true").replace("False", "false")
    lines[place] = lines[place].split("=")[0] + "= " + value

    assert all(fault.line >= 1 and fault.message for fault in faults_if_any("\n".join(lines)))
