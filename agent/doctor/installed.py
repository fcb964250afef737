"""Is it installed as it should be? The unit, the certificates' ends, who may read what, the disk, the version."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from agent import __version__
from agent.config import Config
from agent.doctor.certificate import ends_of
from agent.doctor.check import Check

WARN = timedelta(days=30)
_UNIT = "vagus.service"
_SYSTEMCTL_S = 5.0
_CURRENT = "opt/vagus/current"
_UNIT_PLACES = ("etc/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")


def installed_checks(config_path: Path | None, config: Config | None, state_dir: Path, root: Path) -> list[Check]:
    """What a technician looks at after an installation; nothing about a unit or version where none is installed."""
    checks = [*_unit(root), *_version(root), *_disk(state_dir, root)]
    if config_path is not None and config is not None:
        checks += [*_readable_by_all(config_path, config), *certificate_checks(config, datetime.now(UTC))]
    return checks


def _unit(root: Path) -> Iterator[Check]:
    """Whether the service runs, and will after a power cut. Of another root only what its folders say can be told."""
    if not any((root / place / _UNIT).exists() for place in _UNIT_PLACES):
        return
    wanted = (root / "etc/systemd/system/multi-user.target.wants" / _UNIT).is_symlink()
    remedy = f"sudo systemctl enable --now {_UNIT}"
    yield Check("unit enabled", wanted, "starts with the machine" if wanted else "does not start by itself", remedy)
    if root != Path("/") or shutil.which("systemctl") is None:
        return
    done = subprocess.run(
        ["systemctl", "is-active", _UNIT], capture_output=True, text=True, timeout=_SYSTEMCTL_S, check=False
    )
    state = done.stdout.strip() or "cannot be told"
    yield Check("unit active", state == "active", state, f"sudo systemctl start {_UNIT}; journalctl -u vagus says why")


def _version(root: Path) -> Iterator[Check]:
    """Which of the installed versions is used, where they are kept side by side."""
    current = root / _CURRENT
    if not current.is_symlink():
        return
    target = current.readlink()
    if not current.is_dir():
        yield Check("version", False, f"/{_CURRENT} leads to {target}, which is not there", "install vagus again")
        return
    others = sorted(path.name for path in current.parent.glob("versions/*") if path.name != target.name)
    kept = f"; also here: {', '.join(others)}" if others else ""
    same = target.name == __version__
    remedy = "" if same else f"/{_CURRENT}/bin/vagus doctor asks the installed one"
    yield Check("version", True if same else None, f"{target.name} is used{kept}; this is {__version__}", remedy)


def _disk(state_dir: Path, root: Path) -> Iterator[Check]:
    """Whether the state is on something that wears out by being written."""
    nearest = state_dir
    while not nearest.exists():
        nearest = nearest.parent
    device = nearest.stat().st_dev
    block = root / "sys/dev/block" / f"{os.major(device)}:{os.minor(device)}"
    name = block.resolve().name if block.exists() else ""
    if not name.startswith("mmcblk"):
        return
    disk = block.resolve() if (block / "device").exists() else block.resolve().parent
    kind = _read(disk / "device/type")
    worn = _read(disk / "device/life_time")
    if kind == "SD":
        yield Check("disk wear", None, f"state is on a memory card ({name})", "an SSD or eMMC lasts longer; or a card "
                    "made for endurance, and keep a backup: vagus backup")  # fmt: skip
        return
    # JEDEC eMMC: two numbers, each a tenth of its life that has gone, 0x0B past its end.
    tenths = max((int(word, 16) for word in worn.split()), default=0) if worn else 0
    detail = f"state is on eMMC ({name})" + (
        f", at most {min(tenths, 10) * 10} % of its life has gone" if tenths else ""
    )
    yield Check("disk wear", tenths < 11 if tenths else None, detail, "replace it: vagus backup" if tenths > 9 else "")


def _readable_by_all(config_path: Path, config: Config) -> Iterator[Check]:
    """Who else on this machine may read a secret, or change the config."""
    if config_path.stat().st_mode & stat.S_IWOTH:
        yield Check("permissions", False, f"{config_path} can be changed by everybody here", f"chmod o-w {config_path}")
    for file in sorted(path for key, path in _files(config) if key in ("password_file", "key_file", "secret_file")):
        if file.stat().st_mode & stat.S_IROTH:
            yield Check("secrets", False, f"{file} can be read by everybody here", f"chmod 600 {file}")


def certificate_checks(config: Config, now: datetime) -> Iterator[Check]:
    """When the certificates of a config end; of a file with several the first end counts."""
    for file in sorted({path for key, path in _files(config) if key in ("ca_file", "cert_file")}):
        try:
            ends = ends_of(file.read_text())
        except (OSError, ValueError) as error:
            yield Check("certificate", None, f"{file}: its end cannot be read: {error}", "see docs/support.md")
            continue
        if ends:
            yield _certificate(file, min(ends), now)


def _certificate(file: Path, end: datetime, now: datetime) -> Check:
    remedy = "ask whoever issued it for a new one, then restart vagus"
    day = f"{end:%Y-%m-%d %H:%M} UTC"
    if end <= now:
        return Check("certificate", False, f"{file} ended on {day}", remedy)
    days = (end - now).days
    return Check("certificate", True if end - now > WARN else None, f"{file} ends on {day}, in {days} days",
                 "" if end - now > WARN else remedy)  # fmt: skip


def _files(value: Any) -> Iterator[tuple[str, Path]]:
    """Key and path of every file that a config names and that is there."""
    if is_dataclass(value):
        for field in fields(value):
            found = getattr(value, field.name)
            if isinstance(found, Path):
                if found.is_file():
                    yield field.name, found
            else:
                yield from _files(found)
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _files(one)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
