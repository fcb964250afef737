"""A site of one's own: who has its certificate may do what is theirs, and everybody else is refused in plain words."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from agent.broker import find_mosquitto
from agent.config import load_config
from agent.mqtt import MqttConnection, PublishRefused
from agent.tls import client_context
from tests.peers.test_web_agent import free_port

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
    # paho leaves the socket of a connection that was refused to be collected
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
Run = Callable[[Coroutine[Any, Any, None]], None]
PROVISION = Path(__file__).parents[2] / "deploy" / "provision"
LIST = """id,patient,device,channel,kind,rate_hz,channels
gw-001,p1,strap-1,ecg,ecg,250,II;V1
gw-001,p1,cgm-1,glucose,cgm,0,
gw-002,p2,strap-2,ecg,ecg,130,
"""


def provision(*arguments: str | Path, fails: bool = False) -> str:
    said = subprocess.run([str(PROVISION), *map(str, arguments)], capture_output=True, text=True, check=False)
    assert (said.returncode != 0) == fails, said.stderr
    return said.stderr if fails else said.stdout


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def site(tmp_path: Path, port: int) -> Path:
    """Two agents, a sensor, a nurse, a technician."""
    site = tmp_path / "site"
    provision("init", site, "--broker", "localhost", "--port", str(port), "--name", "Ward 3")
    (tmp_path / "list.csv").write_text(LIST)
    provision("agents", site, tmp_path / "list.csv")
    for role, name in (("sensor", "strap-1"), ("nurse", "alice"), ("technician", "bob")):
        provision(role, site, name)
    return site


@asynccontextmanager
async def broker(site: Path, port: int) -> AsyncIterator[None]:
    """The real one, as provision configures it, its files where they are and only on the loopback interface."""
    lines = (site / "broker" / "mosquitto.conf").read_text().replace("/etc/mosquitto/vagus", str(site / "broker"))
    lines = lines.replace("/var/lib/mosquitto/", f"{site}/").replace(f"listener {port}", f"listener {port} 127.0.0.1")
    config = site / "mosquitto.conf"
    # Started as root it would become another user, who may not read these files.
    config.write_text(lines + ("user root\n" if os.getuid() == 0 else ""))
    process = await asyncio.create_subprocess_exec(
        find_mosquitto() or "", "-c", str(config), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(20):
            while True:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                assert process.returncode is None
                await asyncio.sleep(0.05)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def client(site: Path, folder: str, port: int, name: str) -> MqttConnection:
    at = site / folder
    tls = client_context(at / "ca.pem", at / "device.pem", at / "device.key")
    return MqttConnection("localhost", port, name, tls=tls, clean_start=True)


def test_a_list_becomes_configs_that_run(site: Path) -> None:
    config = load_config(site / "agents" / "gw-001" / "vagus.toml")
    assert config.agent.id == "gw-001"
    (patient,) = config.patients
    assert [(source.stream.device, source.stream.kind) for source in patient.sources] == [  # type: ignore[union-attr]
        ("strap-1", "ecg"),
        ("cgm-1", "cgm"),
    ]
    assert provision("list", site).count("GMT") == 6


def test_nobody_else_can_read_a_key(site: Path) -> None:
    keys = list(site.rglob("*.key"))
    assert len(keys) == 7
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in keys)
    assert "PRIVATE KEY" in keys[0].read_text()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("in,p1,s,ecg,ecg,250,", "line 2"),
        ("gw 1,p1,s,ecg,ecg,250,", "cannot be a name"),
        ("gw-1,p1,s,ecg,ecg,fast,", "rate_hz is"),
        ("gw-1,p1,s,ecg,ecg,250,II;$(id)", "channels are"),
        ('gw-1,p1,s",ecg,ecg,250,', "cannot be a name"),
        ("gw-1,p1,s,ecg,ecg,250,\ngw-2,p2,s,ecg,ecg,250,", "stands in line 2 already"),
    ],
)
def test_a_list_with_a_fault_makes_nothing(tmp_path: Path, line: str, said: str) -> None:
    provision("init", tmp_path / "site", "--broker", "localhost")
    (tmp_path / "list.csv").write_text(f"id,patient,device,channel,kind,rate_hz,channels\n{line}\n")
    assert said in provision("agents", tmp_path / "site", tmp_path / "list.csv", fails=True)
    assert list((tmp_path / "site" / "agents").iterdir()) == []


def test_everybody_may_do_what_is_theirs(site: Path, port: int, run: Run) -> None:
    async def scenario() -> None:
        async with (
            broker(site, port),
            client(site, "agents/gw-001/pki", port, "gw-001") as agent,
            client(site, "sensors/sensor.strap-1", port, "strap") as sensor,
            client(site, "people/nurse.alice", port, "nurse") as nurse,
            client(site, "people/technician.bob", port, "technician") as technician,
        ):
            for one in (agent, sensor, nurse, technician):
                await one.wait_connected()
            await agent.subscribe("vagus/v1/in/+/+")
            await agent.subscribe("vagus/v1/gw-001/cmd/#")
            await nurse.subscribe("vagus/v1/+/event/#")
            await technician.subscribe("vagus/v1/+/status")
            await sensor.publish("vagus/v1/in/strap-1/ecg", b"1")
            await agent.publish("vagus/v1/gw-001/event/p1", b"2")
            await agent.publish("vagus/v1/gw-001/status", b"3", retain=True)
            await nurse.publish("vagus/v1/gw-001/cmd/ack", b"4")
            for one, expected in ((agent, b"1"), (nurse, b"2"), (technician, b"3"), (agent, b"4")):
                assert (await anext(one.messages())).payload == expected

    run(scenario())


FOREIGN = [
    ("agents/gw-001/pki", "vagus/v1/gw-002/event/p2"),
    ("agents/gw-001/pki", "vagus/v1/in/strap-2/ecg"),
    ("agents/gw-001/pki", "vagus/v1/fleet/all/update"),
    ("sensors/sensor.strap-1", "vagus/v1/in/strap-2/ecg"),
    ("sensors/sensor.strap-1", "vagus/v1/gw-001/cmd/ack"),
    ("people/nurse.alice", "vagus/v1/gw-001/cmd/pause"),
    ("people/nurse.alice", "vagus/v1/gw-001/event/p1"),
    ("people/technician.bob", "vagus/v1/gw-001/cmd/ack"),
]


def test_a_foreign_topic_is_refused_in_words(site: Path, port: int, run: Run) -> None:
    async def scenario() -> None:
        async with broker(site, port):
            for who, topic in FOREIGN:
                async with client(site, who, port, "somebody") as somebody:
                    await somebody.wait_connected()
                    with pytest.raises(PublishRefused, match=r"(?i)not authorized"):
                        await somebody.publish(topic, b"x")

    run(scenario())


def test_another_agents_sensor_is_not_heard(site: Path, port: int, run: Run) -> None:
    async def scenario() -> None:
        provision("sensor", site, "strap-2")
        async with (
            broker(site, port),
            client(site, "agents/gw-001/pki", port, "gw-001") as agent,
            client(site, "sensors/sensor.strap-2", port, "other") as other,
            client(site, "sensors/sensor.strap-1", port, "own") as own,
        ):
            for one in (agent, other, own):
                await one.wait_connected()
            await agent.subscribe("vagus/v1/in/+/+")
            await other.publish("vagus/v1/in/strap-2/ecg", b"not yours")
            await own.publish("vagus/v1/in/strap-1/ecg", b"yours")
            assert (await anext(agent.messages())).payload == b"yours"

    run(scenario())


async def refused(site: Path, port: int, words: str) -> None:
    """The real agent, with the files of gw-001 as they are: what it says of the broker."""
    folder = site / "agents" / "gw-001"
    config = (folder / "vagus.toml").read_text().replace("/var/lib/vagus", str(site / "state"))
    (folder / "vagus.toml").write_text(config)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agent.cli", "run", str(folder / "vagus.toml"), stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    said = b""
    try:
        async with asyncio.timeout(40):
            while words not in said.decode():
                line = await process.stderr.readline()
                assert line, said.decode()
                said += line
    except TimeoutError:
        pytest.fail(f"the agent did not say {words!r} but:\n{said.decode()}")
    finally:
        process.kill()
        await process.wait()


def reissue(site: Path, name: str, *more: str) -> None:
    """A new certificate for gw-001 by the site's own authority."""
    pki, config = site / "agents" / "gw-001" / "pki", site / "ca" / "openssl.cnf"
    request = ["openssl", "req", "-new", "-key", pki / "device.key", "-config", config, "-subj", f"/CN={name}"]
    subprocess.run([*request, "-out", pki / "csr"], check=True, capture_output=True)
    sign = ["openssl", "ca", "-batch", "-notext", "-config", config, "-extensions", "client", "-in", pki / "csr"]
    sign += ["-days", "1"] if not more else []
    subprocess.run([*sign, "-out", pki / "device.pem", *more], check=True, capture_output=True)


def test_an_expired_certificate(site: Path, port: int, run: Run) -> None:
    async def scenario() -> None:
        reissue(site, "gw-001", "-startdate", "20200101000000Z", "-enddate", "20200201000000Z")
        async with broker(site, port):
            await refused(site, port, "our certificate has expired")

    run(scenario())


def test_a_revoked_certificate(site: Path, port: int, run: Run) -> None:
    async def scenario() -> None:
        kept = site / "kept"
        shutil.copytree(site / "agents" / "gw-001", kept)
        provision("revoke", site, "gw-001")
        shutil.copytree(kept, site / "agents" / "gw-001")
        async with broker(site, port):
            await refused(site, port, "our certificate was revoked")

    run(scenario())


def test_a_rotated_certificate_is_good_and_the_old_one_is_not(site: Path, port: int, run: Run) -> None:
    async def scenario() -> None:
        old = site / "old"
        shutil.copytree(site / "agents" / "gw-001" / "pki", old)
        provision("rotate", site, "gw-001")
        async with broker(site, port):
            async with client(site, "agents/gw-001/pki", port, "new") as new:
                await new.wait_connected()
                await new.publish("vagus/v1/gw-001/event/p1", b"x")
            async with client(site, "old", port, "old") as stale:
                await says(stale, "our certificate was revoked")

    run(scenario())


async def says(connection: MqttConnection, words: str) -> None:
    async with asyncio.timeout(30):
        while words not in connection.status.detail:
            await asyncio.sleep(0.05)


def test_no_certificate(site: Path, port: int, run: Run) -> None:
    async def scenario() -> None:
        path = site / "agents" / "gw-001" / "vagus.toml"
        lines = [line for line in path.read_text().splitlines() if not line.startswith(("cert_file", "key_file"))]
        path.write_text("\n".join(lines))
        async with broker(site, port):
            await refused(site, port, "wants a certificate")

    run(scenario())


def test_a_certificate_of_another_site(site: Path, port: int, tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        provision("init", tmp_path / "other", "--broker", "localhost", "--port", str(port))
        provision("agents", tmp_path / "other", tmp_path / "list.csv")
        for name in ("device.pem", "device.key"):
            shutil.copy(tmp_path / "other/agents/gw-001/pki" / name, site / "agents/gw-001/pki" / name)
        async with broker(site, port):
            await refused(site, port, "does not know who signed our certificate")

    run(scenario())


def test_a_certificate_with_another_name(site: Path, port: int, run: Run) -> None:
    async def scenario() -> None:
        reissue(site, "gw-002")
        async with broker(site, port):
            await refused(site, port, "denied topic vagus/v1/gw-001/status: not authorized")

    run(scenario())


def test_two_hundred_agents(tmp_path: Path) -> None:
    provision("init", tmp_path / "site", "--broker", "broker.ward.example")
    rows = [f"gw-{k:03},p{k},strap-{k},ecg,ecg,130," for k in range(200)]
    (tmp_path / "list.csv").write_text("\n".join([LIST.splitlines()[0], *rows]))
    provision("agents", tmp_path / "site", tmp_path / "list.csv")
    names = subprocess.run(
        ["openssl", "x509", "-noout", "-subject", "-in", tmp_path / "site/agents/gw-137/pki/device.pem"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "gw-137" in names.stdout
    assert len(list((tmp_path / "site" / "agents").iterdir())) == 200
    assert (tmp_path / "site" / "broker" / "acl").read_text().count("topic read vagus/v1/in/strap-") == 200
