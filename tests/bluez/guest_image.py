"""What the guest is made of: a kernel, its modules in the order of loading, and a first file system to start from."""

from __future__ import annotations

import lzma
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
FETCHED = REPOSITORY / "build" / "bluez-guest" / "root"
"""Where deploy/get-bluez-guest.sh unpacks what this machine lacks."""

WANTED_MODULES = (
    *("virtio_pci", "virtio_mmio", "9pnet_virtio", "9p", "overlay"),  # this machine's files as the guest's own
    *("hmac", "sha256_generic", "sha512_generic", "ctr", "jitterentropy_rng", "drbg"),  # chance, for the keys of
    *("ecdh_generic", "cmac", "ecb", "aes_generic", "ccm", "hci_vhci"),  # Bluetooth's pairing
)


@dataclass(frozen=True, slots=True)
class Machine:
    """What QEMU has to be told about a processor."""

    qemu: str
    console: str
    arguments: tuple[str, ...]


MACHINES = {
    "x86_64": Machine("qemu-system-x86_64", "ttyS0", ("-machine", "q35")),
    "aarch64": Machine("qemu-system-aarch64", "ttyAMA0", ("-machine", "virt,gic-version=max")),
}


class MissingError(Exception):
    """Something that the stage needs is not here; the message names it and says where it is had."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """Everything a guest starts from; each is there."""

    machine: Machine
    kernel: Path
    modules: Path
    """The folder /lib/modules/VERSION of that kernel."""
    busybox: Path
    fetched: Path


def find_pieces(fetched: Path = FETCHED, processor: str = "") -> Pieces:
    """What is needed, found. Raises MissingError at the first that is not."""
    processor = processor or platform.machine()
    if processor not in MACHINES:
        raise MissingError(f"no guest is known for a {processor} machine")
    machine = MACHINES[processor]
    mend = "run deploy/get-bluez-guest.sh"
    if not shutil.which(machine.qemu):
        raise MissingError(f"{machine.qemu} is not installed: {mend}")
    kernel = max(fetched.glob("boot/vmlinuz-*"), default=None)
    if kernel is None:
        raise MissingError(f"there is no kernel for the guest: {mend}")
    modules = fetched / "usr/lib/modules" / kernel.name.removeprefix("vmlinuz-")
    if not modules.is_dir():
        modules = fetched / "lib/modules" / modules.name
    places = {
        "busybox": ("bin/busybox", "usr/bin/busybox"),
        "bluetoothd": ("usr/libexec/bluetooth/bluetoothd", "usr/lib/bluetooth/bluetoothd"),
        "dbus-daemon": ("usr/bin/dbus-daemon",),
    }
    found = {name: _first(fetched, names) for name, names in places.items()}
    for name, path in found.items():
        if path is None:
            raise MissingError(f"there is no {name} for the guest: {mend}")
    if not modules.is_dir() or find_module(modules, "hci_vhci") is None:
        raise MissingError(f"the kernel {modules.name} has no hci_vhci, the virtual Bluetooth controller: {mend}")
    busybox = found["busybox"]
    assert busybox is not None
    return Pieces(machine, kernel, modules, busybox, fetched)


def _first(fetched: Path, names: Iterable[str]) -> Path | None:
    """The first of these files that was fetched or, failing that, that this machine has."""
    return next((root / name for root in (fetched, Path("/")) for name in names if (root / name).is_file()), None)


def find_module(modules: Path, name: str) -> Path | None:
    """The file of a module, which may write `_` as `-`."""
    pattern = re.sub("[-_]", "[-_]", name)
    return next(iter(sorted(modules.glob(f"kernel/**/{pattern}.ko*"))), None)


def load_order(modules: Path, wanted: Iterable[str]) -> list[Path]:
    """The modules' files, each after all that it depends on; what is built into the kernel needs none.

    Raises MissingError where one that another depends on is nowhere. A wanted one that is nowhere is left out: kernels
    differ in what they call their parts, and the guest says what does not work.
    """
    built_in = {Path(line).stem.replace("-", "_") for line in _lines(modules / "modules.builtin")}
    order: dict[str, Path] = {}

    def add(name: str, needed_by: str) -> None:
        name = name.replace("-", "_")
        if name in built_in or name in order:
            return
        path = find_module(modules, name)
        if path is None:
            if needed_by:
                raise MissingError(f"the module {name}, which {needed_by} depends on, is not among {modules}")
            return
        for other in depends(module_bytes(path)):
            add(other, name)
        order[name] = path

    for name in wanted:
        add(name, "")
    return list(order.values())


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.is_file() else []


def module_bytes(path: Path) -> bytes:
    """A module, unpacked; its file may be packed with xz or zstd. Raises MissingError where zstd is not installed."""
    if path.suffix == ".xz":
        return lzma.decompress(path.read_bytes())
    if path.suffix == ".zst":
        if not shutil.which("zstd"):
            raise MissingError(f"zstd is not installed, and {path.name} is packed with it")
        return subprocess.run(["zstd", "-dc", path], capture_output=True, check=True).stdout
    return path.read_bytes()


def depends(module: bytes) -> list[str]:
    """The modules that a module says it depends on, the first to load first."""
    said = re.search(rb"\0depends=([^\0]*)\0", module)
    return [name for name in said[1].decode().split(",") if name] if said else []


def first_files(pieces: Pieces) -> Iterator[tuple[str, bytes, int]]:
    """The first file system: path, content and mode of each file, a folder before what is in it."""
    for folder in ("bin", "dev", "modules"):
        yield folder, b"", 0o040755
    yield "init", (Path(__file__).parent / "init.sh").read_bytes(), 0o100755
    yield "bin/busybox", pieces.busybox.read_bytes(), 0o100755
    for number, path in enumerate(load_order(pieces.modules, WANTED_MODULES)):
        yield f"modules/{number:03}-{path.name.split('.')[0]}.ko", module_bytes(path), 0o100644


def cpio(files: Iterable[tuple[str, bytes, int]]) -> bytes:
    """An archive that the kernel unpacks: cpio in the "newc" form."""
    archive = bytearray()
    for inode, (name, content, mode) in enumerate([*files, ("TRAILER!!!", b"", 0)], start=1):
        fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name.encode()) + 1, 0)
        archive += b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        archive += bytes(-len(archive) % 4) + content
        archive += bytes(-len(archive) % 4)
    return bytes(archive)
