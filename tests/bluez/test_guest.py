"""The stage of `make test-bluez` itself, as far as it can be seen without starting a guest."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import guest
import pytest
from guest_image import (
    MACHINES,
    WANTED_MODULES,
    Machine,
    MissingError,
    Pieces,
    cpio,
    find_pieces,
    first_files,
    load_order,
)

HERE = Path(__file__).parent


def module(folder: Path, name: str, depends: str) -> None:
    path = folder / "kernel" / "some" / f"{name}.ko"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x7fELF\0license=GPL\0depends=" + depends.encode() + b"\0name=x\0")


@pytest.fixture
def fetched(tmp_path: Path) -> Path:
    """What the script fetches, in small."""
    root = tmp_path / "root"
    for name in ("boot/vmlinuz-6.1.0", "bin/busybox", "usr/libexec/bluetooth/bluetoothd", "usr/bin/dbus-daemon"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    modules = root / "usr/lib/modules/6.1.0"
    module(modules, "hci_vhci", "bluetooth")
    module(modules, "bluetooth", "rfkill,ecdh_generic")
    module(modules, "rfkill", "")
    module(modules, "ecdh-generic", "ecc")
    (modules / "modules.builtin").write_text("kernel/crypto/ecc.ko\n")
    return root


@pytest.fixture
def has_qemu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")


@pytest.mark.usefixtures("has_qemu")
@pytest.mark.parametrize("processor", MACHINES)
def test_finds_what_was_fetched(fetched: Path, processor: str) -> None:
    pieces = find_pieces(fetched, processor)
    assert pieces.kernel.name == "vmlinuz-6.1.0"
    assert pieces.busybox == fetched / "bin/busybox"


@pytest.mark.usefixtures("has_qemu")
@pytest.mark.parametrize(
    ("gone", "named"),
    [("boot/vmlinuz-6.1.0", "no kernel"), ("usr/lib/modules/6.1.0/kernel/some/hci_vhci.ko", "6.1.0 has no hci_vhci")],
)
def test_names_what_is_missing_and_how_to_have_it(fetched: Path, gone: str, named: str) -> None:
    (fetched / gone).unlink()
    with pytest.raises(MissingError, match=rf"{named}.*run deploy/get-bluez-guest\.sh"):
        find_pieces(fetched, "x86_64")


def test_names_qemu_and_an_unknown_processor(fetched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(MissingError, match="qemu-system-aarch64 is not installed"):
        find_pieces(fetched, "aarch64")
    with pytest.raises(MissingError, match="no guest is known for a riscv64 machine"):
        find_pieces(fetched, "riscv64")


@pytest.mark.parametrize(("arguments", "status"), [([], 0), (["--must"], 1)])
def test_is_skipped_by_name(
    arguments: list[str], status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert guest.main(arguments) == status
    assert capsys.readouterr().out.startswith("tests/bluez is skipped: qemu-system-x86_64 is not installed")


def test_modules_are_loaded_after_what_they_depend_on(fetched: Path) -> None:
    order = load_order(fetched / "usr/lib/modules/6.1.0", ["hci_vhci", "not_of_this_kernel", "bluetooth"])
    assert [path.stem for path in order] == ["rfkill", "ecdh-generic", "bluetooth", "hci_vhci"]


def test_a_dependency_that_is_nowhere_is_named(fetched: Path) -> None:
    modules = fetched / "usr/lib/modules/6.1.0"
    (modules / "kernel/some/rfkill.ko").unlink()
    with pytest.raises(MissingError, match="rfkill, which bluetooth depends on"):
        load_order(modules, WANTED_MODULES)


def test_the_first_file_system_reads_back(fetched: Path) -> None:
    files = list(first_files(pieces_of(fetched, MACHINES["x86_64"])))
    assert read_cpio(cpio(files)) == [*files, ("TRAILER!!!", b"", 0)]
    assert [name for name, *_ in files[-2:]] == ["modules/002-bluetooth.ko", "modules/003-hci_vhci.ko"]


def read_cpio(archive: bytes) -> list[tuple[str, bytes, int]]:
    found, at = [], 0
    while at < len(archive):
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        name = archive[at + 110 : at + 110 + fields[11] - 1].decode()
        start = (at + 110 + fields[11] + 3) & ~3
        found.append((name, archive[start : start + fields[6]], fields[1]))
        at = (start + fields[6] + 3) & ~3
    return found


def pieces_of(fetched: Path, machine: Machine) -> Pieces:
    modules = fetched / "usr/lib/modules/6.1.0"
    return Pieces(machine, fetched / "boot/vmlinuz-6.1.0", modules, fetched / "bin/busybox", fetched)


def stand_in(folder: Path, fetched: Path, script: str) -> Pieces:
    """Pieces whose QEMU is a script, with the stage's folder as $STAGE."""
    qemu = folder / "qemu"
    qemu.write_text(f"#!/bin/sh\nSTAGE={folder}\n{script}\n")
    qemu.chmod(0o755)
    modules = fetched / "usr/lib/modules/6.1.0"
    return Pieces(
        Machine(str(qemu), "ttyS0", ()), fetched / "boot/vmlinuz-6.1.0", modules, fetched / "bin/busybox", fetched
    )


def test_gives_what_pytest_printed_and_its_status(
    tmp_path: Path, fetched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pieces = stand_in(tmp_path, fetched, "echo '1 failed' >$STAGE/pytest.txt; echo 3 >$STAGE/exit")
    assert guest.run(pieces, [], tmp_path) == 3
    assert "1 failed\n" in capsys.readouterr().out


def test_a_guest_that_panics_fails(tmp_path: Path, fetched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pieces = stand_in(tmp_path, fetched, "echo 'Kernel panic' >$STAGE/console.txt")
    assert guest.run(pieces, [], tmp_path) == 1
    said = capsys.readouterr().out
    assert "Kernel panic" in said
    assert "died before the tests were done" in said


def test_a_guest_that_hangs_is_ended(tmp_path: Path, fetched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pieces = stand_in(tmp_path, fetched, "echo $$ >$STAGE/pid; exec sleep 1000")
    assert guest.run(pieces, [], tmp_path, timeout_s=0.5) == 1
    assert "did not end" in capsys.readouterr().out
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


def test_the_guest_can_change_nothing_here_and_reach_nobody(tmp_path: Path, fetched: Path) -> None:
    words = guest.command(stand_in(tmp_path, fetched, ""), tmp_path)
    shares = [word for word in words if word.startswith("local,")]
    assert [word.split(",")[2] for word in shares if "readonly=on" not in word] == [f"path={tmp_path}"]
    assert "-nodefaults" in words
    assert not {"-nic", "-netdev", "-net"} & set(words)


@pytest.mark.parametrize(
    ("flags", "accelerator"), [("flags : fpu vmx", "kvm"), ("flags : fpu svm", "kvm"), ("flags : fpu vmxish", "tcg")]
)
def test_kvm_only_where_the_processor_has_it(
    flags: str, accelerator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    (tmp_path / "cpuinfo").write_text(flags)
    (tmp_path / "kvm").touch()
    assert guest.accelerator(tmp_path / "cpuinfo", tmp_path / "kvm") == accelerator
    assert guest.accelerator(tmp_path / "cpuinfo", tmp_path / "none") == "tcg"


@pytest.mark.parametrize("script", [HERE / "init.sh", HERE / "guest.sh", HERE.parents[1] / "deploy/get-bluez-guest.sh"])
def test_scripts_are_well_formed(script: Path) -> None:
    assert subprocess.run(["sh", "-n", script], capture_output=True, text=True, check=False).stderr == ""
