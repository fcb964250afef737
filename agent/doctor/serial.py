"""Can the serial ports of a config be used? Whether they are there, may be opened, and who has them already."""

from __future__ import annotations

import grp
import importlib.util
import os
from pathlib import Path

from agent.config import Config, SerialConfig
from agent.doctor.check import Check
from agent.ingest.serial_port import INSTALL, PortError, find_port

_MODEM_MANAGER = "sudo systemctl disable --now ModemManager: it tries every serial port for a modem"


def serial_checks(config: Config, root: Path = Path("/")) -> list[Check]:
    """One finding for each port that the config names, none where it names none. `root` is where /proc is found."""
    ports = dict.fromkeys(
        source.port for patient in config.patients for source in patient.sources if isinstance(source, SerialConfig)
    )
    if ports and importlib.util.find_spec("serial") is None:
        what, _, remedy = INSTALL.partition(": ")
        return [Check("serial port", False, what, remedy)]
    return [_port(pattern, root) for pattern in ports]


def _port(pattern: str, root: Path) -> Check:
    try:
        path = Path(find_port(pattern))
    except PortError as error:
        return Check("serial port", False if error.state == "refused" else None, str(error), _others())
    if not path.exists():
        return Check("serial port", None, f"{path} is not there: is the device plugged in?", _others())
    if not path.is_char_device():
        return Check("serial port", False, f"{path} is no serial port", _others())
    if not os.access(path, os.R_OK | os.W_OK):
        group = _group(path.stat().st_gid)
        detail = f"{path} may not be opened by this user; it belongs to the group {group}"
        return Check("serial port", False, detail, f"sudo usermod -aG {group} $USER, then log in again")
    holders = _holders(path, root)
    strangers = [name for name in holders if "vagus" not in name]
    if strangers:
        remedy = _MODEM_MANAGER if any("ModemManager" in name for name in strangers) else "stop the other program"
        return Check("serial port", False, f"{path} is held by {', '.join(strangers)}", remedy)
    return Check("serial port", True, f"{path} may be opened" if not holders else f"{path}, open in {holders[0]}")


def _others() -> str:
    """What may have been meant."""
    found = sorted(str(path) for path in Path("/dev/serial/by-id").glob("*"))
    return f"plug it in, or write one of {', '.join(found)}" if found else "plug it in; then see ls /dev/serial/by-id"


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _holders(path: Path, root: Path) -> list[str]:
    """The programs that have it open, as far as this user may see: "name (pid)"."""
    device = str(path.resolve())
    found = []
    for process in sorted((root / "proc").glob("[0-9]*")):
        try:
            if process.name != str(os.getpid()) and any(
                str(descriptor.readlink()) == device for descriptor in (process / "fd").iterdir()
            ):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                found.append(f"{command[:80]} ({process.name})")
        except OSError:  # it belongs to somebody else, or has ended meanwhile
            continue
    return found
