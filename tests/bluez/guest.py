"""Run the tests of this folder in a guest that has real Bluetooth: kernel, BlueZ and D-Bus, and wearables of software.

`python tests/bluez/guest.py [pytest arguments]`: pytest's own output and exit status; 0, and why, where something that
it needs is not here (`--must`: 1); 1 where the guest fails, panics or does not end in time.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TextIO

from guest_image import REPOSITORY, MissingError, Pieces, cpio, find_pieces, first_files

TIMEOUT_S = 1500.0
"""For everything; without KVM the guest computes some twenty times slower than this machine."""
MEMORY_MIB = "1024"
STAGE = REPOSITORY / "build" / "bluez-guest" / "last"
"""What came back from the last guest: consoles, logs, JUnit's report."""


def command(pieces: Pieces, stage: Path) -> list[str]:
    """How QEMU is started: no network, no disk, this machine's files read-only, and `stage` for what comes back."""
    machine = pieces.machine
    qemu = [machine.qemu, *machine.arguments, "-accel", accelerator(), "-cpu", "max", "-smp", "1", "-m", MEMORY_MIB]
    qemu += ["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]
    qemu += ["-serial", f"file:{stage / 'console.txt'}", "-append", f"console={machine.console} panic=-1 quiet"]
    qemu += ["-kernel", str(pieces.kernel), "-initrd", str(stage / "initrd")]
    shares = {"host": (Path("/"), ",readonly=on"), "fetched": (pieces.fetched, ",readonly=on"), "stage": (stage, "")}
    for tag, (path, more) in shares.items():
        escaped = str(path).replace(",", ",,")
        qemu += ["-fsdev", f"local,id={tag},path={escaped},security_model=none,multidevs=remap{more}"]
        qemu += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
    return qemu


def accelerator(cpuinfo: Path = Path("/proc/cpuinfo"), kvm: Path = Path("/dev/kvm")) -> str:
    """ "kvm" where it works. Its device file alone does not say so: a virtual machine may have that in vain."""
    flags = cpuinfo.read_text() if cpuinfo.is_file() else ""
    has_flag = platform.machine() == "aarch64" or re.search(r"\b(vmx|svm)\b", flags)
    return "kvm" if has_flag and os.access(kvm, os.R_OK | os.W_OK) else "tcg"


def settings(arguments: list[str]) -> str:
    """What the guest's shell reads before it starts the tests."""
    values = {"REPOSITORY": str(REPOSITORY), "PYTHON": sys.executable, "ARGUMENTS": shlex.join(arguments)}
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())


def run(pieces: Pieces, arguments: list[str], stage: Path, timeout_s: float = TIMEOUT_S) -> int:
    """The exit status of pytest in the guest; 1 where it gave none. What it prints is printed as it comes."""
    (stage / "initrd").write_bytes(cpio(first_files(pieces)))
    (stage / "settings").write_text(settings(arguments))
    started = time.monotonic()
    with (stage / "qemu.txt").open("wb") as log, (stage / "pytest.txt").open("w+") as output:
        guest = subprocess.Popen(command(pieces, stage), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            while guest.poll() is None and time.monotonic() < started + timeout_s:
                _relay(output)
                time.sleep(0.2)
            _relay(output)
        finally:
            in_time = guest.poll() is not None
            if not in_time:
                guest.kill()
            guest.wait()
    status = (stage / "exit").read_text().strip() if (stage / "exit").exists() else ""
    print(f"The guest ran for {time.monotonic() - started:.0f} s.", flush=True)
    if status:
        return int(status)
    for name in ("qemu.txt", "console.txt"):
        text = (stage / name).read_text(errors="replace") if (stage / name).exists() else ""
        print(f"--- the end of {name}", *text.splitlines()[-40:], sep="\n")
    print("The guest died before the tests were done." if in_time else f"The guest did not end in {timeout_s:.0f} s.")
    return 1


def _relay(output: TextIO) -> None:
    print(output.read(), end="", flush=True)


def main(arguments: list[str]) -> int:
    must = "--must" in arguments
    arguments = [one for one in arguments if one != "--must"]
    try:
        pieces = find_pieces()
    except MissingError as error:
        print(f"tests/bluez is skipped: {error}.")
        return int(must)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the guest is ended, too
    shutil.rmtree(STAGE, ignore_errors=True)
    STAGE.mkdir(parents=True)
    return run(pieces, arguments or ["-m", "bluez", str(Path(__file__).parent)], STAGE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
