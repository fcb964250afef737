"""The installer, in empty folders and on machines that are not what it wants.

Here it installs a program that stands in for vagus, from a bundle made on the spot, so that every way a version can
fail is tried in seconds and without a network. `make test-install` does it with the real bundle, see test_bundle.py.
"""

from __future__ import annotations

import ensurepip
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
INSTALL = DEPLOY / "install.sh"
SHIPPED = ("install.sh", "vagus.service", "99-vagus.rules", "vagus-journald.conf", "vagus-tmpfiles.conf",
           "vagus-backoff.conf", "vagus-default.toml")  # fmt: skip
DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n'
PROGRAM = """
import sys
def main():
    match sys.argv[1:]:
        case ["packs", "verify"]: sys.exit({packs})
        case ["check", file]:
            print({faults!r} % {{"file": file}})
            sys.exit(2 if {faults!r} else 0)
    print("vagus {version}")
"""

pytestmark = pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="vagus is for these machines")


def bundle(folder: Path, version: str, *, packs: int = 0, faults: str = "", python: str = "") -> Path:
    """A bundle as bundle.sh makes it, of a program whose models and config check end as told."""
    name = f"vagus-{version}-{platform.machine()}"
    place = folder / name
    wheelhouse = place / "wheelhouse"
    wheelhouse.mkdir(parents=True)
    pip = next((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"), None)
    if pip is None:
        pytest.skip("this Python brings no pip wheel along")
    shutil.copy(pip, wheelhouse)
    this = python or f"{sys.version_info.major}{sys.version_info.minor}"
    (wheelhouse / f"numpy-2.4.6-cp{this}-none-any.whl").touch()  # says which Python the bundle is for
    wheel = wheelhouse / f"vagus-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        about = f"vagus-{version}.dist-info"
        file.writestr("stand_in.py", PROGRAM.format(packs=packs, faults=faults, version=version))
        file.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: vagus\nVersion: {version}\n")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{about}/entry_points.txt", "[console_scripts]\nvagus = stand_in:main\n")
        file.writestr(f"{about}/RECORD", "")
    (place / "VERSION").write_text(f"{version}\n")
    (place / "ARCH").write_text(f"{platform.machine()}\n")
    (place / "requirements.lock").write_text("")
    (place / "vagus.lock").write_text(f"vagus=={version} --hash=sha256:{_sha256(wheel)}\n")
    for one in SHIPPED:
        shutil.copy(DEPLOY / one, place)
    sums = [f"{_sha256(one)}  {one.relative_to(place)}\n" for one in sorted(place.rglob("*")) if one.is_file()]
    (place / "SHA256SUMS").write_text("".join(sums))
    return packed(place)


def packed(place: Path) -> Path:
    made = place.with_name(f"{place.name}.tar")
    with tarfile.open(made, "w") as file:
        file.add(place, place.name)
    return made


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


class Machine:
    """An empty folder that says it is a system, and programs that say what this machine is."""

    def __init__(self, folder: Path) -> None:
        self.root, self._programs = folder / "root", folder / "programs"
        (self.root / "etc").mkdir(parents=True)
        self._programs.mkdir()
        self.is_called(DEBIAN)

    def is_called(self, release: str) -> None:
        (self.root / "etc/os-release").write_text(release)

    def program(self, name: str, script: str) -> None:
        (self._programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (self._programs / name).chmod(0o755)

    def run(self, *args: object, expected: int = 0) -> str:
        """What the installer says."""
        ended = subprocess.run(
            ["bash", str(INSTALL), "--root", str(self.root), *map(str, args)],
            env={**os.environ, "PATH": f"{self._programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == expected, ended.stdout + ended.stderr
        return ended.stdout + ended.stderr

    @property
    def version(self) -> str:
        """What would run now."""
        ran = subprocess.run([self.root / "opt/vagus/current/bin/vagus"], capture_output=True, text=True, check=True)
        return ran.stdout.split()[1]

    def files(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.root)): path.read_bytes() if not path.is_symlink() else bytes(path.readlink())
            for path in self.root.rglob("*")
            if path.is_symlink() or path.is_file()
        }


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return bundle(tmp_path / "first", "1.0.0")


def test_a_dry_run_says_every_step_and_does_none(machine: Machine, first: Path) -> None:
    before = machine.files()
    said = machine.run("--dry-run", "--bundle", first)
    assert machine.files() == before
    for step in ("install vagus 1.0.0", "write /etc/vagus/vagus.toml", "switch to 1.0.0", "vagus.service", "udev"):
        assert step in said
    assert said.endswith("Nothing was done: --dry-run\n")


def test_installed_twice_is_installed_once(machine: Machine, first: Path) -> None:
    assert "vagus 1.0.0 is installed" in machine.run("--bundle", first)
    before = machine.files()
    assert "nothing was changed" in machine.run("--bundle", first)
    after = machine.files()
    assert {name for name in after if before.get(name) != after[name]} == {"var/log/vagus-install.log"}
    assert machine.version == "1.0.0"


def test_a_config_of_its_owner_stays(machine: Machine, first: Path) -> None:
    (machine.root / "etc/vagus").mkdir()
    config = machine.root / "etc/vagus/vagus.toml"
    config.write_text("# mine\n")
    machine.run("--bundle", first)
    assert config.read_text() == "# mine\n"


def test_up_back_and_gone(machine: Machine, first: Path, tmp_path: Path) -> None:
    machine.run("--bundle", first)
    assert "switch to 2.0.0 from 1.0.0" in machine.run("--bundle", bundle(tmp_path / "second", "2.0.0"))
    assert machine.version == "2.0.0"
    machine.run("--version", "1.0.0")
    assert machine.version == "1.0.0"
    state = machine.root / "var/lib/vagus/outbox.sqlite"
    state.write_text("alarms")
    assert "Kept: /etc/vagus" in machine.run("--uninstall")
    left = {name for name in machine.files() if "vagus" in name}
    assert left == {"etc/vagus/vagus.toml", "var/lib/vagus/outbox.sqlite", "var/log/vagus-install.log"}
    machine.run("--uninstall", "--purge")
    assert not state.exists()
    assert "nothing was changed" in machine.run("--uninstall")


@pytest.mark.parametrize(
    ("fails", "words"),
    [
        ({"packs": 1}, "do not give their golden answers"),
        ({"faults": "%(file)s:3: mqtt.hosst: is no key"}, "mqtt.hosst: is no key"),
    ],
)
def test_a_version_that_does_not_fit_is_not_switched_to(
    machine: Machine, first: Path, tmp_path: Path, fails: dict[str, int], words: str
) -> None:
    machine.run("--bundle", first)
    said = machine.run("--bundle", bundle(tmp_path / "bad", "2.0.0", **fails), expected=1)  # type: ignore[arg-type]
    assert words in said
    assert "Nothing was switched: 1.0.0 is as it was." in said
    assert machine.version == "1.0.0"


def test_a_credential_that_only_the_service_has_is_no_fault_of_the_config(machine: Machine, tmp_path: Path) -> None:
    fault = '%(file)s:9: mqtt.password_file: "/run/credentials/vagus.service/mqtt-password" does not exist'
    credentials = machine.root / "etc/vagus/credentials"
    credentials.mkdir(parents=True)
    (credentials / "mqtt-password").write_text("secret")
    machine.run("--bundle", bundle(tmp_path / "first", "1.0.0", faults=fault))
    drop_in = machine.root / "etc/systemd/system/vagus.service.d/30-credentials.conf"
    assert drop_in.read_text() == "[Service]\nLoadCredential=mqtt-password:/etc/vagus/credentials/mqtt-password\n"
    assert "secret" not in (machine.root / "var/log/vagus-install.log").read_text()
    (credentials / "mqtt-password").unlink()
    machine.run("--version", "1.0.0")
    assert not drop_in.exists()


def spoilt(place: Path) -> None:
    (place / "requirements.lock").write_text("evil==1\n")


def smuggled(place: Path) -> None:
    (place / "wheelhouse/evil-1-py3-none-any.whl").touch()


def linked(place: Path) -> None:
    (place / "README.md").symlink_to("/etc/passwd")


def foreign(place: Path) -> None:
    other = "aarch64" if platform.machine() == "x86_64" else "x86_64"
    (place / "ARCH").write_text(f"{other}\n")
    sums = place / "SHA256SUMS"
    kept = [line for line in sums.read_text().splitlines() if not line.endswith("  ARCH")]
    sums.write_text("\n".join([*kept, f"{_sha256(place / 'ARCH')}  ARCH"]) + "\n")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [(spoilt, "is damaged"), (smuggled, "does not name"), (linked, "holds links"), (foreign, "this bundle is for")],
)
def test_a_bundle_that_is_not_as_it_was_made_is_not_used(
    machine: Machine, first: Path, spoil: object, words: str
) -> None:
    place = first.with_suffix("")
    spoil(place)  # type: ignore[operator]
    assert words in machine.run("--bundle", packed(place), expected=1)
    assert not (machine.root / "opt").exists()


def test_a_bundle_that_leads_out_of_its_folder_is_not_unpacked(machine: Machine, tmp_path: Path) -> None:
    evil = tmp_path / "evil.tar"
    with tarfile.open(evil, "w") as file:
        file.addfile(tarfile.TarInfo("../escaped"))
    assert "lead out of it" in machine.run("--bundle", evil, expected=1)


def test_half_a_bundle_is_none(machine: Machine, first: Path) -> None:
    data = first.read_bytes()
    first.write_bytes(data[: len(data) // 2])
    assert "install: " in machine.run("--bundle", first, expected=1)
    assert not (machine.root / "opt").exists()


def test_a_version_is_what_it_was_when_it_came(machine: Machine, first: Path, tmp_path: Path) -> None:
    machine.run("--bundle", first)
    other = bundle(tmp_path / "other", "1.0.0", packs=1)
    assert "from other files than these" in machine.run("--bundle", other, expected=1)
    assert machine.version == "1.0.0"


@pytest.mark.parametrize(
    ("programs", "release", "words"),
    [
        ({"uname": "echo armv7l"}, DEBIAN, "32-bit system (armv7l)"),
        ({"uname": "echo aarch64", "getconf": "echo 32"}, DEBIAN, "the system on it is 32-bit"),
        ({"uname": "echo riscv64"}, DEBIAN, "this is a riscv64"),
        ({"date": "echo 12"}, DEBIAN, "it is not set"),
        ({}, DEBIAN.replace("12", "11"), "is too old"),
        ({}, 'PRETTY_NAME="Ubuntu 20.04"\nID=ubuntu\nID_LIKE=debian\nVERSION_ID="20.04"\n', "Ubuntu 22.04 or newer"),
        ({}, "ID=fedora\nVERSION_ID=42\n", "none that this was made for"),
        ({"stat": "echo 1 '*' 4096"}, DEBIAN, "and 700 are needed"),
    ],
)
def test_a_machine_that_cannot_run_it_is_told_why(
    machine: Machine, first: Path, programs: dict[str, str], release: str, words: str
) -> None:
    machine.is_called(release)
    for name, script in programs.items():
        machine.program(name, script)
    assert words in machine.run("--dry-run", "--bundle", first, expected=1)


def test_a_python_that_is_too_old_gets_one_beside_it(machine: Machine, tmp_path: Path) -> None:
    """JetPack 6 is Ubuntu 22.04 with Python 3.10."""
    machine.is_called('PRETTY_NAME="Ubuntu 22.04.5 LTS"\nID=ubuntu\nVERSION_ID="22.04"\n')
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        machine.program(name, "echo 3.10.12")
    said = machine.run("--dry-run", "--bundle", bundle(tmp_path / "first", "1.0.0"))
    assert "would fetch a Python of its own with uv (this system's is 3.10.12)" in said


@pytest.mark.parametrize("args", [["--purge"], ["--version", "../.."], ["--frobnicate"], ["--bundle"]])
def test_what_it_is_not_told_well_it_does_not_do(machine: Machine, args: Sequence[str]) -> None:
    before = machine.files()
    machine.run(*args, expected=1 if args == ["--bundle"] else 2)
    assert machine.files() == before


def test_a_folder_that_is_not_there_is_not_made(machine: Machine) -> None:
    machine.root = machine.root / "none"
    assert "is no folder" in machine.run("--dry-run", expected=1)
