"""Real peers: a real broker on the loopback interface, or a skip that says what is missing."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from agent.broker import find_mosquitto

LIMIT_S = 120.0


@pytest.fixture(autouse=True)
def _broker_is_there(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("broker") and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")


@pytest.fixture
def run() -> Callable[[Coroutine[Any, Any, None]], None]:
    """Run a test's coroutine; one that hangs fails instead."""

    def run_to_end(scenario: Coroutine[Any, Any, None]) -> None:
        asyncio.run(asyncio.wait_for(scenario, LIMIT_S))

    return run_to_end


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    """mosquitto's password file with the user "agent1", password "right"."""
    salt = b"0123456789ab"
    digest = hashlib.pbkdf2_hmac("sha512", b"right", salt, 101)
    line = f"agent1:$7$101${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}\n"
    path = tmp_path / "passwords"
    path.write_text(line)
    path.chmod(0o600)
    return path


@pytest.fixture
def acl_file(tmp_path: Path) -> Path:
    """Anybody may use vagus/v1/#, but nobody vagus/v1/agent1/event/denied."""
    path = tmp_path / "acl"
    path.write_text("topic readwrite vagus/v1/#\ntopic deny vagus/v1/agent1/event/denied\n")
    path.chmod(0o600)
    return path
