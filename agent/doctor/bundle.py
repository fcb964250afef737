"""`vagus doctor --bundle OUT.tar.gz`: what somebody far away needs to find a fault, and nothing about anybody.

No signal, reading, alarm, key or password is ever read into it; who and where is replaced by placeholders
(`agent.doctor.redaction`), one mapping for the whole archive, which is kept nowhere.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import platform
import sqlite3
import subprocess
import sys
import tarfile
import time
import tomllib
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from agent import __version__, audit, machine
from agent.config import Config, ConfigError, default_state_dir, load_config
from agent.doctor.check import Check
from agent.doctor.redaction import Redaction
from agent.workers.places import state_folders

MAX_LOG_BYTES = 4 << 20
MAX_ANSWER_BYTES = 1 << 20
MAX_CONFIG_BYTES = 1 << 20
MAX_DATABASES = 64
_HTTP_TIMEOUT_S = 3.0
_JOURNAL = ("journalctl", "-u", "vagus", "-o", "cat", "--no-pager", "-n", "20000")
_JOURNAL_S = 20.0


def bundle_command(args: argparse.Namespace, checks: Sequence[Check]) -> int:
    """`vagus doctor --bundle OUT.tar.gz [--config CONFIG] [--log FILE]`: 0 when it is written, else 1."""
    try:
        write_bundle(args.bundle, checks, Path(args.config) if args.config else None, args.log)
    except OSError as error:
        sys.stderr.write(f"vagus doctor: {args.bundle} cannot be written: {error.strerror}\n")
        return 1
    sys.stdout.write(f"{args.bundle}: look into it before you send it, docs/support.md says what is in it\n")
    return 0


def write_bundle(out: Path, checks: Sequence[Check], config_path: Path | None, log: Path | None = None) -> None:
    """Write the support archive, mode 0600, where there was no file; raises OSError where it cannot be written.

    `log` is a log file in the place of the journal of the unit.
    """
    redaction = Redaction()
    redaction.machine()
    shown, config = _config(config_path, redaction)
    state_dir = config.agent.state_dir if config else Path(default_state_dir()).expanduser()
    redaction.hide(str(state_dir), "path")
    for database in _databases(state_dir):
        redaction.people_in(database)
    # A config that is no TOML says not whom to hide: its faults quote it, and so may the log.
    readable = shown is not None or config_path is None
    said = [check if readable or check.name != "config" else Check("config", False, "is no TOML") for check in checks]
    facts: dict[str, Callable[[], Any]] = {
        "checks.json": lambda: [asdict(check) for check in said],
        "versions.json": _versions,
        "machine.json": _machine,
        "config.json": lambda: shown,
        "state.json": lambda: _state(state_dir),
        "packs.json": lambda: _packs(state_dir),
        "health.json": lambda: json.loads(_asked(config, "/healthz")),
    }
    members = {name: _json(redaction, fact) for name, fact in facts.items()}
    members["metrics.txt"] = _text(redaction.text, lambda: _asked(config, "/metrics"))
    if readable:
        members["log.txt"] = _text(redaction.log, lambda: _journal() if log is None else _last(log))
    _write(out, members)


def _config(path: Path | None, redaction: Redaction) -> tuple[dict[str, Any] | None, Config | None]:
    """A config as it may be shown, None where it is no TOML; and what it says, None where that cannot be."""
    if path is None:
        return None, None
    redaction.hide(str(path), "path")
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            return None, None
        shown = redaction.config(tomllib.loads(path.read_text()), path.parent)
    except (OSError, ValueError):
        return None, None
    try:
        return shown, load_config(path)
    except ConfigError:
        return shown, None


def _versions() -> dict[str, Any]:
    installed = {one.metadata["Name"]: one.version for one in metadata.distributions()}
    python, system = platform.python_version(), platform.platform()
    return {"vagus": __version__, "python": python, "system": system, "packages": dict(sorted(installed.items()))}


def _machine() -> dict[str, Any]:
    on_battery, battery_percent = machine.battery()
    return {
        "model": machine.model_name(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "clock_synchronised": machine.clock_is_synchronised(),
        "temperature_c": machine.cpu_temperature_c(),
        "throttling": machine.throttling(),
        "under_voltage": machine.under_voltage(),
        "on_battery": on_battery,
        "battery_percent": battery_percent,
        "bluetooth_adapters": machine.bluetooth_adapters(),
    }


def _state(state_dir: Path) -> dict[str, Any]:
    """How much there is of everything, folder by folder, by the kind of file: their names may be people's."""
    found = {}
    for number, folder in enumerate(state_folders(state_dir)):
        below = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
        sizes: Counter[str] = Counter()
        for path in below:
            sizes[path.suffix if path.suffix in (".sqlite", ".log", ".onnx", ".toml", ".json") else "other"] += (
                path.stat().st_size
            )
        found["state" if number == 0 else folder.name] = {
            "files": len(below),
            "bytes": dict(sizes),
            "rows": {one.name: _rows(one) for one in sorted(folder.glob("*.sqlite"))},
            "audit": _audit(folder / audit.FILE_NAME),
        }
    return found


def _databases(state_dir: Path) -> Iterator[Path]:
    for folder in state_folders(state_dir)[:MAX_DATABASES]:
        yield from sorted(folder.glob("*.sqlite"))


def _rows(database: Path) -> dict[str, int] | str:
    try:
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True, timeout=1.0)) as db:
            tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return {name: db.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in tables}  # noqa: S608
    except sqlite3.Error as error:
        return f"cannot be read: {type(error).__name__}: {error}"


def _audit(path: Path) -> dict[str, Any] | None:
    """Whether the audit file is as it was written, and how long it is; nothing of what it says."""
    if not path.exists():
        return None
    checked = audit.check(path)
    return {
        "entries": checked.entries,
        "sound": not checked.faults,
        "faulty_lines": [f.line for f in checked.faults][:100],
    }


def _packs(state_dir: Path) -> list[dict[str, Any]]:
    from agent.live_models import PACKS_FOLDER  # noqa: PLC0415 - numpy and scipy
    from models.pack import available_packs  # noqa: PLC0415

    installed = [path.resolve() for path in (state_dir / PACKS_FOLDER).glob("*") if path.is_symlink()]
    return [
        {
            "pack": folder.name,
            "origin": "installed" if folder in installed else "shipped",
            "sha256": {path.name: _sha256(path) for path in sorted(folder.iterdir()) if path.is_file()},
        }
        for folder in [*available_packs(), *(one for one in installed if one.is_dir())]
    ]


def _sha256(path: Path) -> list[str]:
    """The hash in pieces of 16 digits: what is longer is taken for a key and hidden."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return [digest[at : at + 16] for at in range(0, len(digest), 16)]


def _asked(config: Config | None, page: str) -> str:
    """What the agent itself says at [web]."""
    if config is None or config.web is None:
        raise ValueError("not asked: there is no [web] in the config")
    host = f"[{config.web.host}]" if ":" in config.web.host else config.web.host
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _AnyStatus())
    with opener.open(f"http://{host}:{config.web.port}{page}", timeout=_HTTP_TIMEOUT_S) as answer:
        return str(answer.read(MAX_ANSWER_BYTES).decode(errors="replace"))


class _AnyStatus(urllib.request.HTTPErrorProcessor):
    """503 of /healthz has the reasons in it."""

    def http_response(self, request: Any, response: Any) -> Any:
        return response


def _journal() -> str:
    done = subprocess.run(_JOURNAL, capture_output=True, timeout=_JOURNAL_S, check=True)
    return _whole_lines(done.stdout)


def _last(log: Path) -> str:
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - MAX_LOG_BYTES - 1))
        return _whole_lines(file.read(MAX_LOG_BYTES + 1))


def _whole_lines(raw: bytes) -> str:
    """The end of a log: the first line, where it was cut, could show half a name."""
    if len(raw) > MAX_LOG_BYTES:
        raw = raw[-MAX_LOG_BYTES:].partition(b"\n")[2]
    return raw.decode(errors="replace")


def _json(redaction: Redaction, fact: Callable[[], Any]) -> bytes:
    """What cannot be found out is said, and hides nothing else."""
    try:
        found = fact()
    except Exception as error:
        found = {"not_found_out": f"{type(error).__name__}: {error}"}
    return json.dumps(redaction.tree(found), indent=1, ensure_ascii=False).encode()


def _text(redacted: Callable[[str], str], fact: Callable[[], str]) -> bytes:
    try:
        return redacted(fact()).encode()
    except Exception as error:
        return redacted(f"not found out: {type(error).__name__}: {error}\n").encode()


def _write(out: Path, members: dict[str, bytes]) -> None:
    descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with (
        os.fdopen(descriptor, "wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb") as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, content in members.items():
            info = tarfile.TarInfo(f"vagus-support/{name}")
            info.size, info.mode, info.mtime = len(content), 0o600, int(time.time())
            tar.addfile(info, io.BytesIO(content))
