"""What can be said of deploy/ by reading it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.config import load_config

DEPLOY = Path(__file__).parents[2] / "deploy"
SCRIPTS = sorted(path for path in DEPLOY.iterdir() if path.is_file() and path.read_bytes().startswith(b"#!"))
EXPOSURE = 2.0


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(script: Path) -> None:
    found = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin")
    if found is None:
        pytest.skip("shellcheck is not installed")
    said = subprocess.run([found, str(script)], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout


def test_the_service_has_few_rights() -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    said = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE * 10:g}", "vagus.service"],
        cwd=DEPLOY,
        capture_output=True,
        text=True,
        check=False,
    )
    if "unrecognized option" in said.stderr:
        pytest.skip("systemd-analyze is older than 250")
    assert said.returncode == 0, said.stdout
    assert float(re.findall(r"exposure level for \S+: ([\d.]+)", said.stdout)[0]) <= EXPOSURE


def test_the_config_that_comes_along_is_a_good_one(tmp_path: Path) -> None:
    config = tmp_path / "vagus.toml"
    config.write_text((DEPLOY / "vagus-default.toml").read_text().replace("@ID@", "pi-7"))
    assert load_config(config).agent.id == "pi-7"
