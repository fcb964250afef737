"""The image and the compose files say what they should: pinned, not root, read-only, and on the loopback interface.

No container is built here. hadolint and compose-lint look at the files where `make lint-containers` has got them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def instructions(text: str) -> list[tuple[str, str]]:
    """Each instruction of a Dockerfile and its arguments."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]


def linter(name: str) -> str:
    found = shutil.which(name, path=str(ROOT / ".supply" / "bin")) or shutil.which(name)
    return found or pytest.skip(f"{name} is not installed: make lint-containers")


def sources(service: dict[str, Any]) -> list[str]:
    return [volume.split(":/")[0] for volume in service.get("volumes", ())]


def test_the_image_is_pinned_and_runs_as_nobody_in_particular() -> None:
    said = instructions(DOCKERFILE)
    image = next(value for what, value in said if what == "ARG").removeprefix("PYTHON=")
    assert re.fullmatch(r"python:3\.1[1-3]-slim-[a-z]+", image)
    assert {value.split()[0] for what, value in said if what == "FROM"} == {"${PYTHON}"}
    assert [value for what, value in said if what == "USER"] == ["10001:10001"]


def test_whatever_the_image_gets_from_outside_is_checked_against_a_hash() -> None:
    steps = [step for what, value in instructions(DOCKERFILE) if what == "RUN" for step in value.split("&&")]
    fetching = [step for step in steps if re.search(r"pip\s+(install|wheel|download)", step)]
    assert len(fetching) == 4
    assert all("--require-hashes" in step or "--no-index" in step for step in fetching)
    assert not any(re.search(r"curl|wget|apt-get|ADD ", step) for step in steps)


def test_what_the_image_copies_is_there_and_nothing_else_reaches_the_builder() -> None:
    copied = [
        name
        for what, value in instructions(DOCKERFILE)
        if what == "COPY" and not value.startswith("--from")
        for name in value.split()[:-1]
    ]
    allowed = [line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[0] == "!"]
    assert sorted(copied) == sorted(allowed)
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_says_how_it_is() -> None:
    health = next(value for what, value in instructions(DOCKERFILE) if what == "HEALTHCHECK")
    assert "http://127.0.0.1:9108/healthz" in health


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_pinned_and_may_do_little(name: str) -> None:
    service = SERVICES[name]
    assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]), "a tag that says which version"
    assert service["user"].split(":")[0] not in {"0", "root"}
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert not {"privileged", "network_mode", "devices", "cap_add", "pid", "ipc"} & set(service)


def test_only_the_loopback_interface_is_listened_on_unless_somebody_says_otherwise() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert ports == {"broker": ["${LISTEN:-127.0.0.1}:8883:8883"], "grafana": ["127.0.0.1:3000:3000"]}


def test_no_secret_stands_in_the_file_and_no_service_holds_the_docker_socket() -> None:
    environment = SERVICES["grafana"]["environment"]
    assert not [key for key in environment if "PASSWORD" in key or "TOKEN" in key or "SECRET_KEY" in key]
    assert not [source for service in SERVICES.values() for source in sources(service) if "docker.sock" in source]


def test_the_files_that_are_mounted_are_there() -> None:
    mounted = [source for service in SERVICES.values() for source in sources(service) if source.startswith("./")]
    assert mounted
    assert all((DEPLOY / source).exists() for source in mounted)


def test_prometheus_asks_the_agent_and_grafana_asks_prometheus() -> None:
    scrape = yaml.safe_load((DEPLOY / "containers" / "prometheus.yml").read_text())
    targets = [
        target for job in scrape["scrape_configs"] for entry in job["static_configs"] for target in entry["targets"]
    ]
    assert targets == ["agent:9108"]
    datasource = yaml.safe_load((DEPLOY / "containers" / "grafana-datasource.yml").read_text())["datasources"][0]
    assert datasource["url"] == "http://prometheus:9090"
    shared = (
        set(SERVICES["agent"]["networks"])
        & set(SERVICES["prometheus"]["networks"])
        & set(SERVICES["grafana"]["networks"])
    )
    assert shared == {"watch"}
    provider = yaml.safe_load((DEPLOY / "containers" / "grafana-dashboards.yml").read_text())["providers"][0]
    assert f"./grafana:{provider['options']['path']}:ro" in SERVICES["grafana"]["volumes"]


def test_the_brokers_files_lie_where_its_config_from_provision_looks_for_them() -> None:
    provision = (DEPLOY / "provision").read_text()
    inside = {volume.split(":/")[1].removesuffix(":ro") for volume in SERVICES["broker"]["volumes"]}
    assert inside == {"etc/mosquitto/vagus", "var/lib/mosquitto"}
    assert all(f"/{path}/" in provision for path in inside)


def test_bluetooth_takes_the_bus_and_a_group_and_nothing_more() -> None:
    agent = yaml.safe_load((DEPLOY / "compose.bluetooth.yaml").read_text())["services"]["agent"]
    assert agent["volumes"] == ["/run/dbus/system_bus_socket:/run/dbus/system_bus_socket"]
    assert set(agent) == {"group_add", "environment", "volumes"}


def test_hadolint_has_nothing_to_say() -> None:
    said = subprocess.run([linter("hadolint"), str(DEPLOY / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (0, "")


def test_compose_lint_finds_nothing_grave() -> None:
    command = [linter("compose-lint"), "--fail-on", "high", str(DEPLOY / "compose.yaml")]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout
