"""deploy/requirements.lock names all that a running agent needs, each with its hashes, and no host to get it from."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "deploy" / "requirements.lock"
DEPENDENCIES = [
    Requirement(line) for line in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
]
MACHINES = [
    {
        **default_environment(),
        "platform_machine": machine,
        "python_version": python,
        "python_full_version": f"{python}.0",
    }
    for machine in ("x86_64", "aarch64")
    for python in ("3.11", "3.12", "3.13")
]


def entries() -> list[tuple[Requirement, list[str]]]:
    """Each line of the lock with its hashes."""
    text = LOCK.read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith(("#", "--"))]
    return [(Requirement(line.split(" --hash=")[0]), re.findall(r"--hash=(\S+)", line)) for line in lines]


def locked_on(machine: dict[str, str]) -> dict[str, str]:
    """Name and version of what the lock installs on one machine."""
    chosen = [wanted for wanted, _ in entries() if wanted.marker is None or wanted.marker.evaluate(machine)]
    names = [canonicalize_name(wanted.name) for wanted in chosen]
    assert len(names) == len(set(names))
    return {name: str(wanted.specifier).removeprefix("==") for name, wanted in zip(names, chosen, strict=True)}


def needed_here() -> dict[str, list[Requirement]]:
    """What the core dependencies lead to in this environment, and what each of them is asked to be."""
    needed: dict[str, list[Requirement]] = {}
    waiting = list(DEPENDENCIES)
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        new = name not in needed
        needed.setdefault(name, []).append(wanted)
        if new:
            more = [Requirement(line) for line in importlib.metadata.requires(name) or ()]
            waiting += [one for one in more if one.marker is None or one.marker.evaluate({"extra": ""})]
    return needed


@pytest.mark.parametrize("machine", MACHINES, ids=lambda one: f"{one['platform_machine']}-{one['python_version']}")
def test_every_machine_gets_each_dependency_in_a_version_that_is_allowed(machine: dict[str, str]) -> None:
    locked = locked_on(machine)
    missing = [str(one) for one in DEPENDENCIES if locked.get(canonicalize_name(one.name), "") not in one.specifier]
    assert missing == []


def test_the_lock_is_the_whole_of_what_is_needed_and_no_more() -> None:
    assert set(locked_on(dict(default_environment()))) == set(needed_here())


def test_the_locked_versions_go_together() -> None:
    locked = locked_on(dict(default_environment()))
    needed = needed_here()
    same = [name for name in needed if importlib.metadata.version(name) == locked[name]]
    wrong = [
        f"{one} but {name}=={locked[name]}"
        for name in same
        for one in needed[name]
        if locked[name] not in one.specifier
    ]
    assert same, "nothing of what is installed here has the version of the lock: make lock, then install anew"
    assert wrong == []


def test_every_line_is_pinned_and_hashed() -> None:
    for wanted, hashes in entries():
        assert re.fullmatch(r"==[0-9.]+", str(wanted.specifier)), wanted
        assert hashes, wanted
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes), wanted


def test_only_wheels_and_no_host_is_named() -> None:
    text = LOCK.read_text()
    assert text.splitlines()[1] == "--only-binary :all:"
    assert re.findall(r"://|--index|--extra-index|--find-links|--trusted|@ ", text) == []
