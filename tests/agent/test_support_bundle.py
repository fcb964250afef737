"""A support archive helps to find a fault and tells nothing of anybody: whatever stands in config, log and state."""

from __future__ import annotations

import json
import stat
import string
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.cli import main
from agent.doctor.bundle import MAX_LOG_BYTES, write_bundle
from agent.doctor.check import Check
from agent.doctor.redaction import Redaction

NAMES = st.text(string.ascii_letters + string.digits + "-_.:+", min_size=4, max_size=24).map("zq".__add__)
SECRETS = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="/?#&="), min_size=6, max_size=40
).map("zq".__add__)


def members(archive: Path) -> dict[str, str]:
    with tarfile.open(archive) as tar:
        found = {}
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            found[member.name.removeprefix("vagus-support/")] = file.read().decode()
        return found


def config_of(patient: str, host: str, user: str, device: str, url_token: str, unknown: str) -> str:
    said = {name: json.dumps(value, ensure_ascii=False) for name, value in locals().items() if isinstance(value, str)}
    return f"""
[agent]
id = {said["user"]}
state_dir = "state"
[mqtt]
host = {said["host"]}
port = 1883
username = {said["user"]}
password_file = "password"
[[patient]]
id = {said["patient"]}
{said["unknown"]} = 3
[[patient.source]]
type = "mqtt"
device = {said["device"]}
channel = "ecg"
kind = "ecg"
rate_hz = 250
[[patient.source]]
type = "ble"
address = "C0:FF:EE:12:34:56"
passkey = 918273
[webhook]
url = {json.dumps(f"https://{host}/{url_token}/in", ensure_ascii=False)}
"""


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(NAMES, min_size=5, max_size=5, unique_by=str.casefold), secret=SECRETS, token=SECRETS)
def test_no_name_secret_or_address_of_any_config_is_in_the_archive(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], secret: str, token: str
) -> None:
    folder = tmp_path_factory.mktemp("unit")
    patient, host, user, device, unknown = names
    config = folder / "vagus.toml"
    config.write_text(config_of(patient, host, user, device, token, unknown))
    (folder / "password").write_text(f"{secret}\n")
    strings = [*names, secret, token]
    lines = [f"device {one!r}: x; dropped\nmqtt {one}: no; ({one})\n{one}{one}" for one in strings]
    lines += [json.dumps({"message": f"signal of {one}"}) for one in strings]
    lines += ["dev_C0_FF_EE_12_34_56 gone, C0:FF:EE:12:34:56 too, passkey 918273", f"got {patient.upper()} 63 mg/dL"]
    (folder / "log").write_text("\n".join(lines))
    checks = [Check("broker", False, f"{host}:1883 cannot be reached", f"see {config}")]
    write_bundle(folder / "out.tar.gz", checks, config, folder / "log")
    found = members(folder / "out.tar.gz")
    for name, text in found.items():
        hidden = [*strings, "C0:FF:EE", "C0_FF_EE", "918273", "63 mg", str(folder)]
        shown = [one for one in hidden if one.casefold() in text.casefold()]
        assert not shown, (name, shown)
    assert json.loads(found["config.json"])["mqtt"]["port"] == 1883
    assert json.loads(found["config.json"])["patient"][0]["source"][0]["kind"] == "ecg"


def test_the_same_name_has_the_same_placeholder_everywhere(tmp_path: Path) -> None:
    config = tmp_path / "vagus.toml"
    config.write_text(config_of("anna-k", "broker.example", "gw-001", "strap-7", "secret-token", "note"))
    (tmp_path / "log").write_text("signal of anna-k is lost\nstrap-7: at broker.example\n")
    write_bundle(tmp_path / "out.tar.gz", [], config, tmp_path / "log")
    found = members(tmp_path / "out.tar.gz")
    shown = json.loads(found["config.json"])
    person, device, host = shown["patient"][0]["id"], shown["patient"][0]["source"][0]["device"], shown["mqtt"]["host"]
    assert (person, found["log.txt"]) == ("patient-1", f"signal of patient-1 is lost\n{device}: at {host}\n")


@pytest.mark.parametrize("name", ["patient-1", "patient-2", "host-1", "a", "p1", "1", "ecg", "low", "Ü"])
def test_a_person_called_like_anything_is_called_otherwise(name: str) -> None:
    redaction = Redaction()
    redaction.hide(name, "patient")
    said = redaction.text(f"signal of {name}: lost")
    assert said.startswith("signal of patient-")
    assert said != f"signal of {name}: lost"


def test_a_placeholder_is_not_taken_for_a_name() -> None:
    redaction = Redaction()
    redaction.hide("1", "patient")
    redaction.hide("pat", "patient")
    assert redaction.log("signal of pat: lost, 1 too\n") == "signal of patient-2: lost, patient-1 too\n"


def test_what_comes_from_a_device_or_a_person_is_not_in_the_log() -> None:
    said = Redaction().log(
        "device 'unknown-9': glucose 'fifty' is no number\n"
        "command ack: acknowledged by Sister Agnes\n"
        "got [1.25, 1.5, -0.25, 3e-5] from 192.168.7.9 and fe80:0:0:1::7, 2001:db8::5, 10:20:30\n"
        "-----BEGIN PRIVATE KEY-----\nMIIabc\n-----END PRIVATE KEY-----\n"
        'File "agent/engine.py", line 7\n'
    )
    for one in ("unknown-9", "fifty", "Agnes", "1.25", "192.168", "fe80", "db8", "MIIabc"):
        assert one not in said
    assert "10:20:30" in said
    assert 'File "agent/engine.py", line 7' in said


def test_a_config_that_is_no_toml_brings_no_log_and_no_quotation(tmp_path: Path) -> None:
    (tmp_path / "vagus.toml").write_text('[patient\nid = "anna"')
    (tmp_path / "log").write_text("anna is well")
    write_bundle(tmp_path / "out.tar.gz", [Check("config", False, "anna?")], tmp_path / "vagus.toml", tmp_path / "log")
    assert not [text for text in members(tmp_path / "out.tar.gz").values() if "anna" in text]


def test_the_end_of_a_long_log_is_taken_and_its_first_line_not_cut_in_two(tmp_path: Path) -> None:
    line = f"{'x' * 30} of nobody\n"
    (tmp_path / "log").write_text(line * (2 * MAX_LOG_BYTES // len(line)) + "the end\n")
    write_bundle(tmp_path / "out.tar.gz", [], None, tmp_path / "log")
    text = members(tmp_path / "out.tar.gz")["log.txt"]
    assert len(text) <= MAX_LOG_BYTES
    assert text.startswith(line)
    assert text.endswith("the end\n")


def test_it_is_its_owner_s_and_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.tar.gz"
    (tmp_path / "log").write_text("all is well\n")
    assert main(["doctor", "--bundle", str(out), "--log", str(tmp_path / "log")]) == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    before = out.read_bytes()
    assert main(["doctor", "--bundle", str(out)]) == 1
    assert "exists" in capsys.readouterr().err
    assert out.read_bytes() == before
    found = members(out)
    assert json.loads(found["versions.json"])["vagus"]
    assert {pack["pack"] for pack in json.loads(found["packs.json"])} >= {"beat"}
    assert any(check["name"] == "python" for check in json.loads(found["checks.json"]))
