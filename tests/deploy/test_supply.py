"""What is shipped is known: the SBOM against the lock and against what is installed, licences, and an honest audit."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from tests.deploy.test_lock import MACHINES, ROOT, locked_on

SBOM: dict[str, Any] = json.loads((ROOT / "deploy" / "sbom.json").read_text())
LICENCES = (ROOT / "docs" / "licences.md").read_text()


def components(bom: dict[str, Any]) -> dict[str, str]:
    return {canonicalize_name(one["name"]): one["version"] for one in bom["components"]}


def declared(component: dict[str, Any]) -> str | None:
    """The licence as an SPDX expression, where the package declares one."""
    first = (component.get("licenses") or [{}])[0]
    found: str | None = first.get("expression") or first.get("license", {}).get("id")
    return found


def table(heading: str) -> dict[str, list[str]]:
    """The rows under a heading of the page of licences, by their first cell."""
    section = LICENCES.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return {row[0]: row[1:] for row in rows[1:]}


def audit(tmp_path: Path, said: str, status: int) -> subprocess.CompletedProcess[str]:
    """`make audit` with a pip-audit that says this."""
    (tmp_path / "said.json").write_text(said)
    fake = tmp_path / "pip-audit"
    fake.write_text(
        '#!/bin/sh\nwhile [ $# -gt 0 ]; do [ "$1" = --output ] && out=$2; shift; done\n'
        f'[ -z "$out" ] || cp {tmp_path}/said.json "$out"\necho trouble >&2\nexit {status}\n'
    )
    fake.chmod(0o755)
    command = [str(ROOT / "deploy" / "audit.sh"), str(fake)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_sbom_is_what_the_lock_installs() -> None:
    assert SBOM["bomFormat"] == "CycloneDX"
    assert components(SBOM) in [locked_on(machine) for machine in MACHINES]


def test_the_sbom_is_of_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    root = SBOM["metadata"]["component"]
    assert (root["name"], root["version"], declared(root)) == (project["name"], project["version"], project["license"])


def test_an_sbom_is_equal_to_what_is_installed(tmp_path: Path) -> None:
    name = "cyclonedx-py"
    tool = shutil.which(name, path=str(ROOT / ".supply" / "bin")) or shutil.which(name)
    if tool is None:
        pytest.skip("cyclonedx-py is not installed: make sbom")
    command = [tool, "environment", "--of", "JSON", "-o", str(tmp_path / "sbom.json"), sys.executable]
    subprocess.run(command, capture_output=True, check=True)
    found = components(json.loads((tmp_path / "sbom.json").read_text()))
    installed = {canonicalize_name(one.name): one.version for one in importlib.metadata.distributions()}
    found.pop("vagus", None)
    installed.pop("vagus", None)
    assert found == installed


def test_every_package_that_is_shipped_is_listed_with_its_licence() -> None:
    listed = table("What is shipped with it")
    assert set(listed) == {one["name"] for one in SBOM["components"]}
    wrong = [one["name"] for one in SBOM["components"] if declared(one) not in {None, listed[one["name"]][0]}]
    assert wrong == []
    assert all(row[0] for row in listed.values())


def test_every_database_that_a_pack_was_trained_on_is_attributed() -> None:
    listed = table("Data that the packs were trained on")
    for path in (ROOT / "models" / "packs").glob("*/manifest.toml"):
        manifest = tomllib.loads(path.read_text())
        for source in manifest["training"]["sources"]:
            _, licence, attribution, packs = listed[source["database"]]
            assert (licence, attribution) == (source["licence"], source["attribution"])
            assert manifest["id"] in packs.split(", ")


def test_an_audit_that_asked_about_everything_is_good_news(tmp_path: Path) -> None:
    said = audit(tmp_path, '{"dependencies": [{"name": "numpy", "version": "2.4.6", "vulns": []}], "fixes": []}', 0)
    assert (said.returncode, said.stdout) == (0, '1 packages, none with a known vulnerability, by the list "pypi"\n')


def test_an_audit_that_finds_something_fails_with_its_name(tmp_path: Path) -> None:
    found = (
        '{"dependencies": [{"name": "numpy", "version": "1", "vulns": [{"id": "PYSEC-2000-1", "fix_versions": []}]}]}'
    )
    said = audit(tmp_path, found, 1)
    assert said.returncode == 1
    assert "PYSEC-2000-1" in said.stdout


@pytest.mark.parametrize(
    ("said", "status"),
    [("", 1), ('{"dependencies": [{"name": "numpy", "skip_reason": "not found"}]}', 0), ('{"dependencies": []}', 0)],
    ids=["unreachable", "unknown packages", "no packages"],
)
def test_an_audit_that_could_not_ask_is_no_good_news(tmp_path: Path, said: str, status: int) -> None:
    result = audit(tmp_path, said, status)
    assert result.returncode == 3
    assert result.stderr.startswith("NOT AUDITED")
