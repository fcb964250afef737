"""What the doctor finds of serial ports: real terminal devices of this machine, and processes laid out in a folder."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.config import parse_config
from agent.doctor import Check, run_checks
from agent.doctor import serial as doctor_serial
from agent.doctor.serial import serial_checks

pytest.importorskip("serial", reason="needs pyserial")

CONFIG = """
[agent]
id = "a"
[[patient]]
id = "p1"
[[patient.source]]
type = "serial"
port = "{port}"
kind = "ecg"
rate_hz = 250
[[patient.source]]
type = "serial"
port = "{port}"
stream = 1
kind = "spo2"
interval_s = 1
"""


@pytest.fixture
def port() -> Iterator[Path]:
    master, slave = os.openpty()
    yield Path(os.ttyname(slave))
    os.close(master)
    os.close(slave)


def found(port: Path | str, root: Path = Path("/nowhere")) -> Check:
    (check,) = serial_checks(parse_config(CONFIG.format(port=port), Path("v.toml"), {}), root)
    return check


def test_a_port_that_may_be_opened_is_good_and_said_once(port: Path) -> None:
    assert found(port) == Check("serial port", True, f"{port} may be opened")


def test_a_link_is_followed_and_a_pattern_too(port: Path, tmp_path: Path) -> None:
    (tmp_path / "usb-strap").symlink_to(port)
    assert found(tmp_path / "usb-strap").ok
    assert found(f"{tmp_path}/usb-*").ok


def test_a_device_that_is_not_plugged_in_is_a_note(tmp_path: Path) -> None:
    for name in ("ttyUSB9", "usb-*"):
        check = found(tmp_path / name)
        assert check.ok is None
        assert "plug it in" in check.remedy


def test_what_is_no_port_or_more_than_one_stands_in_the_way(tmp_path: Path) -> None:
    for name in ("usb-a", "usb-b"):
        (tmp_path / name).touch()
    assert (found(tmp_path / "usb-a").ok, "no serial port" in found(tmp_path / "usb-a").detail) == (False, True)
    assert (found(f"{tmp_path}/usb-*").ok, "2 ports fit" in found(f"{tmp_path}/usb-*").detail) == (False, True)


def test_missing_rights_name_the_group(port: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(doctor_serial, "_group", lambda _number: "dialout")
    check = found(port)
    assert (check.ok, check.remedy) == (False, "sudo usermod -aG dialout $USER, then log in again")
    assert "belongs to the group dialout" in check.detail


@pytest.mark.parametrize(
    ("command", "ok", "said"),
    [
        ("/usr/sbin/ModemManager", False, "ModemManager"),
        ("screen\0/dev/ttyUSB0", False, "stop the other program"),
        ("python3\0vagus\0run", True, ""),
    ],
)
def test_who_has_it_is_said(port: Path, tmp_path: Path, command: str, ok: bool, said: str) -> None:
    process = tmp_path / "proc" / "77"
    (process / "fd").mkdir(parents=True)
    (process / "fd" / "5").symlink_to(port)
    (process / "cmdline").write_text(command)
    check = found(port, tmp_path)
    assert (check.ok, "(77)" in check.detail, said in check.remedy) == (ok, True, True)


def test_a_real_process_that_has_it_is_found(port: Path) -> None:
    code = (
        f"import os, sys; os.open({str(port)!r}, os.O_RDWR | os.O_NOCTTY); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/"
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert f"({other.pid})" in found(port, Path("/")).detail
        other.communicate()


def test_without_pyserial_it_is_said_what_to_install(port: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert found(port).remedy == "pip install 'vagus[serial]'"


def test_it_is_among_the_checks_of_a_config_that_has_one(port: Path, tmp_path: Path) -> None:
    (tmp_path / "v.toml").write_text(CONFIG.format(port=port))
    assert [check.ok for check in run_checks(tmp_path / "v.toml", tmp_path) if check.name == "serial port"] == [True]
    assert not [check for check in run_checks(None, tmp_path) if check.name == "serial port"]
