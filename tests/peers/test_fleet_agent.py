"""`vagus run` and `vagus fleet` as their own processes: the status says where an update stands, an order is obeyed."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptography")
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from agent import __version__
from agent.broker import LocalBroker
from agent.config import ConfigError, load_config
from agent.fleet.listener import MOST_ATTEMPTS, Standing, UpdateListener
from agent.fleet.order import Trust
from agent.mqtt import MqttConnection

pytestmark = pytest.mark.broker
Run = Callable[[Coroutine[Any, Any, None]], None]

CONFIG = """
[agent]
id = "ward"
state_dir = "{folder}/state"
[mqtt]
host = "127.0.0.1"
port = {port}
[update]
ring = "canary"
key_files = ["{folder}/key.pub"]
program = "{folder}/install"
jitter_s = 0.0
[[patient]]
id = "demo"
[[patient.source]]
type = "mqtt"
device = "strap"
channel = "ecg"
kind = "ecg"
rate_hz = 250
channels = ["II"]
"""
PROGRAM = """#!/bin/sh
cat >>"{folder}/orders"
[ "$1" = roll_back ] && exit 0
echo "the disk is full" >&2
exit 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Keys, a bundle, and a program that cannot install."""
    key = Ed25519PrivateKey.generate()
    (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pub").write_bytes(public)
    (tmp_path / "vagus.tar").write_bytes(b"bundle")
    program = tmp_path / "install"
    program.write_text(PROGRAM.format(folder=tmp_path))
    program.chmod(0o755)
    (tmp_path / "agent.toml").write_text(CONFIG.format(folder=tmp_path, port=1883))
    return tmp_path


async def vagus(*words: object) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "agent.cli",
        *map(str, words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


async def the_agent(port: int) -> dict[str, Any]:
    """What `vagus fleet` says once the agent is there."""
    while True:
        code, said = await vagus("fleet", "--port", port, "--host", "127.0.0.1", "--json")
        assert code == 0, said
        if agents := json.loads(said)["agents"]:
            found: dict[str, Any] = agents[0]
            return found


def test_an_order_reaches_the_program_and_its_failure_the_technician(run: Run, folder: Path) -> None:
    async def scenario() -> None:
        async with LocalBroker(kind="mosquitto") as broker:
            (folder / "agent.toml").write_text(CONFIG.format(folder=folder, port=broker.port))
            with (folder / "agent.log").open("wb") as log:
                agent = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "agent.cli", "run", str(folder / "agent.toml"), stderr=log
                )
            try:
                before = await the_agent(broker.port)
                assert (before["id"], before["version"]) == ("ward", __version__)
                assert before["update"] == {"ring": "canary", "version": "", "state": "waiting", "detail": ""}
                assert before["disk_free_mb"] > 0
                order = folder / "order.json"
                words = ["--key", folder / "key.pem", "--bundle", folder / "vagus.tar", "--version", "9.9.9"]
                code, said = await vagus("fleet", "sign", order, *words, "--sequence", 1)
                assert code == 0, said
                at = ["--host", "127.0.0.1", "--port", broker.port]
                code, said = await vagus("fleet", "roll-out", order, *at, "--rings", "canary", "--wait", "--soak", 0.1)
                assert code == 1, said
                assert "ward: the disk is full" in said
                assert "all are back from 9.9.9" in said
                asked = json.loads((folder / "orders").read_text())
                assert (asked["action"], asked["version"], asked["length"]) == ("install", "9.9.9", 6)
                after = await the_agent(broker.port)
                assert (after["update"]["state"], after["update"]["detail"]) == ("rolled_back", "the disk is full")
                assert (await vagus("fleet", *at))[1].startswith("1 agent: 1 ")
            finally:
                agent.terminate()
                assert await agent.wait() == 0

    run(scenario())


def test_a_broker_without_agents_and_files_that_are_not_there_are_told(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with LocalBroker(kind="mosquitto") as broker:
            code, said = await vagus("fleet", "--host", "127.0.0.1", "--port", broker.port)
            assert (code, said.startswith("no agents")) == (0, True)
        code, said = await vagus("fleet", "--host", "127.0.0.1", "--port", 1, "--ca-file", tmp_path / "none.pem")
        assert (code, said.startswith("vagus fleet: ")) == (2, True)

    run(scenario())


def test_a_key_that_is_none_is_a_fault_of_the_config(folder: Path) -> None:
    load_config(folder / "agent.toml")
    (folder / "key.pub").write_text("no key")
    with pytest.raises(ConfigError, match="holds no public key in PEM"):
        load_config(folder / "agent.toml")


@pytest.mark.parametrize(
    ("kept", "running", "state"),
    [
        (Standing(1, "2", "installing", attempts=1), "2", "done"),
        (Standing(1, "2", "installing", attempts=1), "1", "installing"),
        (Standing(1, "2", "rolling_back", attempts=1, installed="2"), "1", "rolled_back"),
        (Standing(1, "2", "failed"), "1", "failed"),
        (None, "1", "waiting"),
    ],
)
def test_a_start_knows_what_the_process_before_was_at(
    tmp_path: Path, kept: Standing | None, running: str, state: str
) -> None:
    path = tmp_path / "update.json"
    fields = {name: getattr(kept, name) for name in Standing.__slots__} if kept is not None else "rubbish"
    path.write_text(json.dumps(fields))
    assert MOST_ATTEMPTS > 1
    connection = MqttConnection("127.0.0.1", 1, "nobody")
    listener = UpdateListener(
        connection,
        Trust([]),
        None,  # type: ignore[arg-type]
        ring="ward",
        running=running,
        path=path,
        jitter_s=0,
        on_change=lambda: None,
    )
    assert listener.health().state == state
