"""What a technician is told after an installation: the unit, the certificates, who may read what, the disk."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import __version__
from agent.config import load_config
from agent.doctor.certificate import ends_of
from agent.doctor.check import Check
from agent.doctor.installed import certificate_checks, installed_checks

CONFIG = """
[agent]
id = "a"
state_dir = "state"
[mqtt]
host = "127.0.0.1"
tls = true
ca_file = "ca.pem"
cert_file = "device.pem"
key_file = "key.pem"
[[patient]]
id = "p"
[[patient.source]]
type = "mqtt"
device = "d"
channel = "ecg"
kind = "ecg"
rate_hz = 250
"""


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config whose certificate, made by openssl, ends in 60 days."""
    folder = tmp_path_factory.mktemp("certified")
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test", "-days", "60"]
    subprocess.run([*made, "-keyout", "key.pem", "-out", "ca.pem"], cwd=folder, check=True, capture_output=True)
    (folder / "device.pem").write_bytes((folder / "ca.pem").read_bytes())
    (folder / "key.pem").chmod(0o600)
    (folder / "vagus.toml").write_text(CONFIG)
    return folder / "vagus.toml"


def examined(config: Path, root: Path) -> dict[str, Check]:
    loaded = load_config(config)
    return {check.name: check for check in installed_checks(config, loaded, loaded.agent.state_dir, root)}


@pytest.mark.parametrize(("days", "ok"), [(0, True), (29, True), (31, None), (59, None), (61, False)])
def test_a_certificate_s_end_is_said_before_it_comes(certified: Path, days: int, ok: bool | None) -> None:
    now = datetime.now(UTC) + timedelta(days=days)
    (check, other) = certificate_checks(load_config(certified), now)
    assert check.ok is ok
    assert bool(check.remedy) is (ok is not True)
    assert other.ok is ok


def test_a_key_that_everybody_can_read_is_a_fault(certified: Path, tmp_path: Path) -> None:
    assert "secrets" not in examined(certified, tmp_path)
    (certified.parent / "key.pem").chmod(0o644)
    assert examined(certified, tmp_path)["secrets"].ok is False


def test_the_end_of_a_certificate_is_what_openssl_says(tmp_path: Path) -> None:
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-days", "36500"]
    subprocess.run([*made, "-keyout", "k", "-out", "c"], cwd=tmp_path, check=True, capture_output=True)
    said = subprocess.run(
        ["openssl", "x509", "-in", "c", "-noout", "-enddate"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    end = datetime.strptime(said.stdout.strip(), "notAfter=%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)
    text = (tmp_path / "c").read_text()
    assert ends_of(f"words before\n{text}\n{text}") == [end, end]


@given(st.text(st.sampled_from("MIIBabc09+/=\n"), max_size=300))
def test_a_damaged_certificate_is_a_value_error_and_nothing_else(body: str) -> None:
    try:
        ends_of(f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----")
    except ValueError:
        return


@pytest.mark.parametrize("enabled", [True, False])
def test_a_unit_that_does_not_start_with_the_machine_is_a_fault(tmp_path: Path, enabled: bool) -> None:
    units = tmp_path / "etc/systemd/system"
    (units / "multi-user.target.wants").mkdir(parents=True)
    (units / "vagus.service").touch()
    if enabled:
        (units / "multi-user.target.wants/vagus.service").symlink_to("../vagus.service")
    checks = {check.name: check for check in installed_checks(None, None, tmp_path, tmp_path)}
    assert checks["unit enabled"].ok is enabled


def test_where_nothing_is_installed_nothing_is_said_of_it(tmp_path: Path) -> None:
    assert installed_checks(None, None, tmp_path, tmp_path) == []


def test_which_version_is_used_and_which_is_kept_is_said(tmp_path: Path) -> None:
    versions = tmp_path / "opt/vagus/versions"
    (versions / __version__).mkdir(parents=True)
    (versions / "0.0.1").mkdir()
    (tmp_path / "opt/vagus/current").symlink_to(f"versions/{__version__}")
    (check,) = installed_checks(None, None, tmp_path, tmp_path)
    assert (check.ok, "also here: 0.0.1" in check.detail) == (True, True)
    (versions / __version__).rmdir()
    (check,) = installed_checks(None, None, tmp_path, tmp_path)
    assert check.ok is False


@pytest.mark.parametrize(
    ("kind", "life", "ok", "said"),
    [("SD", "", None, "memory card"), ("MMC", "0x01 0x02", True, "20 %"), ("MMC", "0x0B 0x01", False, "100 %")],
)
def test_state_on_what_wears_out_is_said(tmp_path: Path, kind: str, life: str, ok: bool | None, said: str) -> None:
    disk = tmp_path / "sys/devices/mmcblk0"
    (disk / "device").mkdir(parents=True)
    (disk / "mmcblk0p2").mkdir()
    (disk / "device/type").write_text(f"{kind}\n")
    (disk / "device/life_time").write_text(f"{life}\n")
    device = tmp_path.stat().st_dev
    (tmp_path / "sys/dev/block").mkdir(parents=True)
    (tmp_path / f"sys/dev/block/{os.major(device)}:{os.minor(device)}").symlink_to(disk / "mmcblk0p2")
    (check,) = installed_checks(None, None, tmp_path, tmp_path)
    assert check.ok is ok
    assert said in check.detail


def test_a_config_that_everybody_may_change_is_a_fault(tmp_path: Path) -> None:
    config = tmp_path / "vagus.toml"
    config.write_text(
        "".join(line for line in CONFIG.splitlines(keepends=True) if "tls" not in line and "_file" not in line)
    )
    config.chmod(0o666)
    assert examined(config, tmp_path)["permissions"].ok is False
    config.chmod(0o640)
    assert "permissions" not in examined(config, tmp_path)
