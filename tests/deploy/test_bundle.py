"""The real bundle in a fresh Debian: installed, started, brought forward and back, and taken away again.

`make test-install` for this machine's architecture, `make test-arm64` for Arm with qemu-user. Both take root,
debootstrap and a network; what is missing is said. A system is made once and kept in VAGUS_ROOTS.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]
ARCH = os.environ.get("VAGUS_INSTALL", "")
DEBIAN = {"x86_64": "amd64", "aarch64": "arm64"}
PYTHON = "3.11"  # of Debian 12
NEXT = "99.0.0"
LONGEST_S = 300.0

pytestmark = pytest.mark.skipif(ARCH not in DEBIAN, reason="takes minutes: make test-install, make test-arm64")


def done(*command: object, cwd: Path | None = None) -> str:
    """What a command says; it has to end well."""
    ended = subprocess.run([str(one) for one in command], capture_output=True, text=True, check=False, cwd=cwd)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By version: this tree's, and the same as a version that does not exist yet."""
    out = tmp_path_factory.mktemp("bundles")
    later = out / "source"
    later.mkdir()
    for name in ("agent", "firmware_bridge", "models", "deploy"):
        shutil.copytree(TREE / name, later / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "LICENSE", "pyproject.toml"):
        shutil.copy(TREE / name, later)
    now = re.findall(r'^version = "(.*)"', (TREE / "pyproject.toml").read_text(), re.MULTILINE)[0]
    for file, said in (("pyproject.toml", 'version = "{}"'), ("agent/__init__.py", '__version__ = "{}"')):
        text = (later / file).read_text()
        (later / file).write_text(text.replace(said.format(now), said.format(NEXT)))
    for source in (TREE, later):
        made = subprocess.run(
            [source / "deploy/bundle.sh", ARCH, "--python", PYTHON, "--out", out],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode and re.search("connection|resolve|No matching|timed out", made.stderr, re.IGNORECASE):
            pytest.skip("no package index can be reached")
        assert made.returncode == 0, made.stderr
    return {version: out / f"vagus-{version}-{ARCH}.tar" for version in (now, NEXT)}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Debian 12 with Python and nothing else."""
    if os.geteuid() != 0:
        pytest.skip("making a system takes root")
    if shutil.which("debootstrap") is None:
        pytest.skip("debootstrap is not installed")
    if platform.machine() != ARCH and not Path("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists():
        pytest.skip("qemu-user is not registered with binfmt (10 or newer: onnxruntime does not load with qemu 7)")
    kept = Path(os.environ.get("VAGUS_ROOTS", TREE / ".roots")) / DEBIAN[ARCH]
    if not (kept / "usr/bin/python3").exists():
        kept.parent.mkdir(exist_ok=True, parents=True)
        shutil.rmtree(kept, ignore_errors=True)
        made = subprocess.run(
            ["debootstrap", f"--arch={DEBIAN[ARCH]}", "--variant=minbase", "--include=python3", "bookworm", kept],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            shutil.rmtree(kept, ignore_errors=True)
            pytest.skip(f"no Debian could be made: {made.stdout.splitlines()[-1] if made.stdout else made.stderr}")
    root = tmp_path_factory.mktemp("system") / "root"
    done("cp", "-a", "--reflink=auto", kept, root)
    done("mount", "-t", "proc", "proc", root / "proc")
    yield root
    done("umount", root / "proc")


def install(system: Path, *args: object) -> str:
    return done(TREE / "deploy/install.sh", "--root", system, *args)


def said_ready(system: Path) -> bool:
    """Whether the installed agent becomes ready as the user vagus, with the config that came along."""
    path = system / "run/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, (system / "tmp/agent.log").open("wb") as log:
        manager.bind(str(path))
        path.chmod(0o666)
        manager.settimeout(LONGEST_S)
        agent = subprocess.Popen(
            ["chroot", "--userspec=vagus:vagus", system, "/usr/local/bin/vagus", "run", "/etc/vagus/vagus.toml"],
            env={"NOTIFY_SOCKET": "/run/notify", "HOME": "/var/lib/vagus", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            stderr=log,
        )
        try:
            while manager.recv(4096) != b"READY=1":
                pass
            agent.terminate()
            return agent.wait(LONGEST_S) == 0
        except TimeoutError:
            return False
        finally:
            agent.kill()
            agent.wait()
            path.unlink()


def test_from_nothing_to_monitoring_forward_back_and_gone(system: Path, bundles: dict[str, Path]) -> None:
    now = next(iter(bundles))
    assert "Nothing was done" in install(system, "--dry-run", "--bundle", bundles[now])
    assert not (system / "opt/vagus").exists()

    assert f"vagus {now} is installed" in install(system, "--bundle", bundles[now])
    assert "nothing was changed" in install(system, "--bundle", bundles[now])
    assert "good: agent" in done("chroot", system, "vagus", "check", "/etc/vagus/vagus.toml")
    assert said_ready(system), (system / "tmp/agent.log").read_text()

    assert f"switch to {NEXT} from {now}" in install(system, "--bundle", bundles[NEXT])
    assert NEXT in done("chroot", system, "vagus", "--version")
    assert said_ready(system), (system / "tmp/agent.log").read_text()

    install(system, "--version", now)
    assert NEXT not in done("chroot", system, "vagus", "--version")

    assert (system / "var/lib/vagus/outbox.sqlite").exists()
    assert "Kept: /etc/vagus" in install(system, "--uninstall")
    assert (system / "var/lib/vagus/outbox.sqlite").exists()
    assert not (system / "opt/vagus").exists()
    install(system, "--uninstall", "--purge")
    left = done("find", system / "etc", system / "opt", system / "usr/local", system / "var/lib", "-name", "*vagus*")
    assert left == ""
    assert "vagus" not in (system / "etc/passwd").read_text()


@pytest.mark.skipif(platform.machine() != ARCH, reason="once is enough")
def test_the_same_source_gives_the_same_bundle(bundles: dict[str, Path], tmp_path: Path) -> None:
    now, made = next(iter(bundles.items()))
    done(TREE / "deploy/bundle.sh", ARCH, "--python", PYTHON, "--out", tmp_path)
    assert (tmp_path / f"vagus-{now}-{ARCH}.tar").read_bytes() == made.read_bytes()
