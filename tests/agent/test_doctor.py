"""The doctor: what it finds on a machine laid out in a folder, at a real broker, and in a bad config."""

import argparse
import asyncio
import json
import socket
import subprocess
from pathlib import Path

import pytest
from nightscout_site import serving
from webhook_receiver import SECRET, receiving

from agent.broker import LocalBroker, find_mosquitto
from agent.doctor import Check, doctor_command, run_checks
from agent.machine import bluetooth_adapters, clock_is_synchronised, cpu_temperature_c, model_name, throttling

needs_mosquitto = pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")

CONFIG = """\
[agent]
id = "a"
state_dir = "state"
[mqtt]
host = "127.0.0.1"
port = {port}
{more}
[[patient]]
id = "p"
[[patient.source]]
type = "mqtt"
device = "d"
channel = "ecg"
kind = "ecg"
rate_hz = 250
"""


def lay_out(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def written(folder: Path, port: int, more: str = "") -> Path:
    return lay_out(folder, {"v.toml": CONFIG.format(port=port, more=more)}) / "v.toml"


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def found(checks: list[Check], name: str) -> Check:
    return next(check for check in checks if check.name == name)


def examined_at(broker: LocalBroker, folder: Path, more: str = "") -> Check:
    """The finding about `broker`, which runs on a loop of its own in this thread."""

    async def examine() -> list[Check]:
        async with broker:
            return await asyncio.to_thread(run_checks, written(folder, broker.port, more), folder)

    return found(asyncio.run(examine()), "broker")


def test_every_check_has_something_to_say(tmp_path: Path) -> None:
    checks = run_checks(None, tmp_path)

    assert {"python", "onnxruntime", "model beat", "sqlite", "state folder", "clock", "bluetooth"} <= {
        check.name for check in checks
    }
    assert all(check.detail for check in checks)
    assert all(check.remedy for check in checks if check.ok is False)


def test_a_raspberry_pi_in_distress_is_described(tmp_path: Path) -> None:
    root = lay_out(
        tmp_path,
        {
            "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
            "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
            "sys/class/thermal/thermal_zone0/temp": "83450\n",
            "sys/class/thermal/thermal_zone1/type": "battery\n",
            "sys/class/thermal/thermal_zone1/temp": "99000\n",
            "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
            "sys/class/bluetooth/hci0/address": "00\n",
            "run/systemd/timesync/synchronized": "",
        },
    )
    checks = run_checks(None, root)

    assert "Raspberry Pi 4" in found(checks, "machine").detail
    assert "83 °C" in found(checks, "temperature").detail
    assert "the supply voltage is too low" in found(checks, "temperature").detail
    assert "hci0" in found(checks, "bluetooth").detail
    assert found(checks, "clock").ok is True


def test_a_machine_that_says_nothing_is_no_failure(tmp_path: Path) -> None:
    assert model_name(tmp_path) is None
    assert clock_is_synchronised(tmp_path) is None
    assert bluetooth_adapters(tmp_path) == []
    assert cpu_temperature_c(tmp_path) is None
    assert throttling(tmp_path) == []


def test_nonsense_from_a_sensor_is_left_out(tmp_path: Path) -> None:
    root = lay_out(
        tmp_path,
        {
            "sys/class/thermal/thermal_zone0/type": "cpu",
            "sys/class/thermal/thermal_zone0/temp": "hot",
            "sys/class/thermal/thermal_zone1/type": "cpu",
            "sys/class/thermal/thermal_zone1/temp": "-274000",
            "sys/devices/platform/soc/soc:firmware/get_throttled": "?",
        },
    )

    assert cpu_temperature_c(root) is None
    assert throttling(root) == []


def test_the_real_machine_can_be_asked_about_its_clock() -> None:
    assert clock_is_synchronised() in (True, False, None)


def test_every_fault_of_a_config_is_a_finding(tmp_path: Path) -> None:
    config = written(tmp_path, 1883, "tsl = true\nhosst = 1")

    checks = [check for check in run_checks(config, tmp_path) if check.name == "config"]

    assert [check.ok for check in checks] == [False, False]
    assert "v.toml:7: mqtt.tsl" in checks[0].detail


def test_a_state_folder_that_cannot_be_written_is_a_failure(tmp_path: Path) -> None:
    config = written(tmp_path, unused_port())
    (tmp_path / "state").write_text("a file where the folder should be")

    check = found(run_checks(config, tmp_path), "state folder")

    assert check.ok is False
    assert "state_dir" in check.remedy


def test_the_doctor_leaves_nothing_behind(tmp_path: Path) -> None:
    config = written(tmp_path, unused_port())

    run_checks(config, tmp_path)

    assert list(tmp_path.iterdir()) == [config]


def test_a_secret_that_others_can_read_is_a_fault(tmp_path: Path) -> None:
    config = written(tmp_path, unused_port(), 'username = "u"\npassword_file = "secret"')
    (tmp_path / "secret").write_text("hunter2")
    (tmp_path / "secret").chmod(0o644)

    checks = run_checks(config, tmp_path)

    assert found(checks, "secrets").ok is False
    assert "chmod 600" in found(checks, "secrets").remedy
    assert "hunter2" not in repr(checks)


def test_no_broker_is_a_failure_in_words(tmp_path: Path) -> None:
    check = found(run_checks(written(tmp_path, unused_port()), tmp_path), "broker")

    assert check.ok is False
    assert "Connection refused" in check.detail


def test_something_else_than_a_broker_is_a_failure(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        config = written(tmp_path, server.getsockname()[1])

        async def examine() -> list[Check]:
            examining = asyncio.create_task(asyncio.to_thread(run_checks, config, tmp_path))
            while not examining.done():
                await asyncio.sleep(0.02)
                server.setblocking(False)
                try:
                    peer, _ = server.accept()
                except BlockingIOError:
                    continue
                peer.close()
            return await examining

        check = found(asyncio.run(examine()), "broker")

    assert check.ok is False


@pytest.mark.broker
@needs_mosquitto
def test_a_broker_that_lets_us_in(tmp_path: Path) -> None:
    check = examined_at(LocalBroker(kind="mosquitto"), tmp_path)

    assert check.ok is True
    assert "MQTT 5" in check.detail


@pytest.mark.broker
@needs_mosquitto
def test_a_broker_that_refuses_the_password_says_so(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.touch(mode=0o600)
    subprocess.run(["mosquitto_passwd", "-b", str(passwords), "u", "right"], check=True, capture_output=True)
    (tmp_path / "secret").write_text("wrong\n")
    broker = LocalBroker(kind="mosquitto", password_file=passwords)

    check = examined_at(broker, tmp_path, 'username = "u"\npassword_file = "secret"')

    assert check.ok is False
    assert "refused the user name or password" in check.detail


def test_the_command_answers_in_json_and_by_its_exit_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = written(tmp_path, unused_port())

    status = doctor_command(argparse.Namespace(config=str(config), json=True, bundle=None))

    answer = json.loads(capsys.readouterr().out)
    assert status == 1
    assert answer["ok"] is False
    assert {"name", "ok", "detail", "remedy"} == set(answer["checks"][0])


def test_the_command_prints_a_table_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    doctor_command(argparse.Namespace(config=str(written(tmp_path, unused_port())), json=False, bundle=None))

    printed = capsys.readouterr().out
    assert "FAILED" in printed
    assert "Connection refused" in " ".join(printed.split())


def test_a_glucose_site_is_asked(tmp_path: Path) -> None:
    with serving() as site:
        site.answers([{"sgv": 120, "date": 1_790_000_000_000}])
        source = f'[[patient.source]]\ntype = "nightscout"\nurl = "{site.url}"\n'
        path = written(tmp_path, unused_port())
        path.write_text(path.read_text() + source)
        assert found(run_checks(path), "glucose site").ok is True
        site.status = 401
        refused = found(run_checks(path), "glucose site")
    assert refused.ok is False
    assert "token_file" in refused.detail


def test_a_webhook_is_looked_at_without_sending_anything(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "secret").chmod(0o600)
    table = '[webhook]\nurl = "{url}"\nsecret_file = "secret"'
    with receiving() as receiver:
        checks = run_checks(written(tmp_path, unused_port(), table.format(url=receiver.url)), tmp_path)
        assert found(checks, "webhook").ok
        assert receiver.asked == []
    (tmp_path / "secret").chmod(0o644)
    checks = run_checks(written(tmp_path, unused_port(), table.format(url=receiver.url)), tmp_path)
    assert found(checks, "webhook").ok is False
    assert "cannot be reached" in found(checks, "webhook").detail
    assert "chmod 600" in found(checks, "secrets").remedy
