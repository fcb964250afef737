"""Is this machine fit to run the agent? Each check says what it found and, where that is bad, what to do about it."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import json
import logging
import os
import platform
import shutil
import socket
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from agent.broker import find_mosquitto
from agent.config import BleConfig, Config, ConfigError, MqttConfig, NightscoutConfig, default_state_dir, load_config
from agent.doctor.check import Check
from agent.doctor.installed import installed_checks
from agent.machine import clock_is_synchronised, cpu_temperature_c, model_name, throttling

_FREE_BYTES_NEEDED = 64 << 20
_HOT_C = 80.0
_TCP_TIMEOUT_S = 5.0
_CONNECT_TIMEOUT_S = 8.0
_FALLBACK_S = 1.5
"""Time after a first refusal in which the older protocol may still be accepted."""
_FSYNCS = 16
_REFUSED = "see what the reason names; what failed is tried again after a day, what is absent at each start"


def run_checks(config_path: Path | None = None, root: Path = Path("/")) -> list[Check]:
    """Every check, in the order a person would go through them; none of them raises.

    Without a config, what needs one is left out and the default state folder is looked at. `root` is where the
    machine's /proc, /sys and /run are found.
    """
    config, checks = _config(config_path)
    checks += [_guarded("python", _python), _guarded("machine", lambda: _machine(root))]
    state_dir = config.agent.state_dir if config else Path(default_state_dir()).expanduser()
    runtime = config.agent.runtime if config else "auto"
    checks.append(_guarded("onnxruntime", _onnxruntime))
    checks += _guarded_all("model packs", lambda: _packs(state_dir, runtime))
    checks.append(_guarded("sqlite", _sqlite))
    max_mb = config.outbox.max_mb if config else 0
    checks += _guarded_all("state folder", lambda: _state(state_dir, max_mb))
    checks.append(_guarded("clock", lambda: _clock(root)))
    if config is not None:
        checks += _guarded_all("broker", lambda: _broker(config.mqtt))
        checks += _guarded_all("glucose site", lambda: _sites(config))
        checks += _guarded_all("webhook", lambda: _webhook(config))
        checks += _guarded_all("serial port", lambda: _serial(config, root))
    checks.append(_guarded("local broker", _local_broker))
    checks += _guarded_all("bluetooth", lambda: _bluetooth(root, config))
    checks.append(_guarded("temperature", lambda: _temperature(root)))
    return checks + _guarded_all("installation", lambda: installed_checks(config_path, config, state_dir, root))


def doctor_command(args: argparse.Namespace) -> int:
    """`vagus doctor [--config CONFIG] [--json] [--bundle OUT]`: 0 when nothing stands in the way, else 1."""
    logging.getLogger("agent").addHandler(logging.NullHandler())  # what went wrong is in the findings
    checks = run_checks(Path(args.config) if args.config else None)
    failed = any(check.ok is False for check in checks)
    if args.bundle:
        from agent.doctor.bundle import bundle_command  # noqa: PLC0415 - it makes Checks

        return bundle_command(args, checks)
    if args.json:
        sys.stdout.write(json.dumps({"ok": not failed, "checks": [asdict(check) for check in checks]}) + "\n")
    else:
        _print_table(checks)
    return 1 if failed else 0


def _print_table(checks: list[Check]) -> None:
    from rich.console import Console  # noqa: PLC0415 - only where a person looks
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    signs = {True: Text("ok", "green"), None: Text("note", "yellow"), False: Text("FAILED", "bold red")}
    table = Table("", "check", "found", "what to do", box=None, pad_edge=False)
    for check in checks:
        table.add_row(signs[check.ok], Text(check.name), Text(check.detail), Text(check.remedy))
    Console().print(table)


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    return _guarded_all(name, lambda: [check()])[0]


def _guarded_all(name: str, checks: Callable[[], list[Check]]) -> list[Check]:
    """A check that breaks is a finding too, and must not hide the others."""
    try:
        return checks()
    except Exception as error:
        return [Check(name, False, f"the check itself failed: {type(error).__name__}: {error}")]


def _config(path: Path | None) -> tuple[Config | None, list[Check]]:
    if path is None:
        return None, []
    try:
        config = load_config(path)
    except ConfigError as error:
        return None, [Check("config", False, str(fault), "see docs/config.md") for fault in error.faults]
    return config, [Check("config", True, f"{path}: {len(config.patients)} patient(s)")]


def _sites(config: Config) -> list[Check]:
    """Whether each Nightscout site answers, and has an entry."""
    from agent.ingest.nightscout import FetchError, Site, fetch  # noqa: PLC0415

    checks = []
    for source in (one for patient in config.patients for one in patient.sources if isinstance(one, NightscoutConfig)):
        try:
            entries = fetch(Site(source.url, source.secret, source.token), 1)
        except FetchError as error:
            checks.append(Check("glucose site", False, f"{source.url}: {error}", "see docs/glucose.md"))
            continue
        found = f"{source.url} answers with {len(entries)} of 1 entry asked for"
        checks.append(Check("glucose site", bool(entries) or None, found, "" if entries else "has it any readings?"))
    return checks


def _webhook(config: Config) -> list[Check]:
    """Whether the webhook's receiver is there and is who it should be; no alert is sent."""
    from agent.uplink.webhook import PostError, reach  # noqa: PLC0415

    if config.webhook is None:
        return []
    receiver = config.webhook.receiver()
    try:
        reach(receiver)
    except PostError as error:
        return [Check("webhook", False, f"{receiver.host}: {error}", "see docs/webhook.md")]
    return [Check("webhook", True, f"{receiver.host} is there")]


def _python() -> Check:
    bits = 64 if sys.maxsize > 1 << 32 else 32
    detail = f"{platform.python_version()}, {bits}-bit, {platform.machine()}"
    if bits == 32:
        return Check("python", False, detail, "install a 64-bit system: there is no onnxruntime for 32 bits")
    if sys.version_info < (3, 11):  # noqa: UP036 - somebody may run this from a checkout
        return Check("python", False, detail, "install Python 3.11 or newer")
    if platform.machine().lower() not in ("aarch64", "arm64", "x86_64", "amd64"):
        return Check("python", None, detail, "models are tested on arm64 and x86-64 only")
    return Check("python", True, detail)


def _machine(root: Path) -> Check:
    name = model_name(root) or "not a board that says its name"
    return Check("machine", None, f"{name}, {os.cpu_count()} cores")


def _onnxruntime() -> Check:
    if importlib.util.find_spec("onnxruntime") is None:
        return Check("onnxruntime", False, "is not installed", "pip install onnxruntime")
    runtime = importlib.import_module("onnxruntime")
    return Check("onnxruntime", True, runtime.__version__)


def _packs(state_dir: Path, runtime: str) -> list[Check]:
    """Each pack with what really runs it, found as a start of the agent finds it."""
    if importlib.util.find_spec("models.pack") is None:
        return [Check("model packs", False, "models.pack is missing from this installation", "install vagus again")]
    from agent.live_models import live_models  # noqa: PLC0415 - opens the runtimes

    _, states = live_models(state_dir if state_dir.is_dir() else None, runtime, time.time_ns)
    checks = []
    for pack in states:
        name = f"model {pack.id}"
        if pack.fault:
            checks.append(Check(name, False, pack.loss, "install vagus again, or a sound pack: vagus packs install"))
            continue
        origin = "installed" if pack.installed else "shipped"
        checks.append(Check(name, True, f"{pack.version}, {origin}, runs on {pack.runtime}: self-test passed"))
        checks += [Check(name, None, f"passed over: {reason}", _REFUSED) for reason in pack.refused]
    return checks


def _sqlite() -> Check:
    version = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info < (3, 35):
        return Check("sqlite", False, version, "use a Python built with SQLite 3.35 or newer")
    return Check("sqlite", True, version)


def _state(state_dir: Path, outbox_mb: int) -> list[Check]:
    """Whether state can be written, whether there is room for it, and how long a flush takes."""
    nearest = state_dir
    while not nearest.exists():
        nearest = nearest.parent
    remedy = f"let {_user()} write there, or set state_dir under [agent]"
    try:
        with tempfile.NamedTemporaryFile(dir=nearest, prefix=".vagus-doctor-") as file:
            flush_ms = _flush_ms(file.fileno())
    except OSError as error:
        return [Check("state folder", False, f"{nearest} cannot be written: {error.strerror}", remedy)]
    free = shutil.disk_usage(nearest).free
    detail = f"{state_dir} is writable" if nearest == state_dir else f"{state_dir} will be made in {nearest}"
    space = f"{free >> 20} MB free"
    checks = [Check("state folder", True, detail), Check("disk space", True, space)]
    if free < _FREE_BYTES_NEEDED:
        checks[1] = Check("disk space", False, space, f"free at least {_FREE_BYTES_NEEDED >> 20} MB")
    elif free < outbox_mb << 20:
        checks[1] = Check("disk space", None, space, f"[outbox] may grow to {outbox_mb} MB: free some or set max_mb")
    return [*checks, Check("flush to disk", None, _flush_in_words(flush_ms))]


def _user() -> str:
    return f"user {os.geteuid()}"


def _flush_ms(descriptor: int) -> float:
    """Median time of an fsync after 4 KiB, in ms."""
    times: list[float] = []
    for _ in range(_FSYNCS):
        os.write(descriptor, bytes(4096))
        start = time.perf_counter()
        os.fsync(descriptor)
        times.append((time.perf_counter() - start) * 1000)
    return sorted(times)[_FSYNCS // 2]


def _flush_in_words(flush_ms: float) -> str:
    if flush_ms < 0.2:
        meaning = "so fast that the storage may only say it has flushed: a power cut could then lose what was promised"
    elif flush_ms < 15:
        meaning = "good"
    elif flush_ms < 100:
        meaning = "slow, as memory cards are: alerts wait this long before they are sent"
    else:
        meaning = "very slow: a better card or an SSD would send alerts sooner"
    return f"{flush_ms:.1f} ms, {meaning}"


def _clock(root: Path) -> Check:
    remedy = "start systemd-timesyncd or chrony: with a wrong clock, new samples look late"
    match clock_is_synchronised(root):
        case True:
            return Check("clock", True, "synchronised")
        case False:
            return Check("clock", None, "not synchronised", remedy)
        case _:
            return Check(
                "clock", None, "cannot tell whether it is synchronised", "compare `date -u` with another clock"
            )


def _broker(mqtt: MqttConfig) -> list[Check]:
    """Whether the configured broker is there and lets us in."""
    where = f"{mqtt.host}:{mqtt.port}"
    try:
        socket.create_connection((mqtt.host, mqtt.port), timeout=_TCP_TIMEOUT_S).close()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        remedy = "is the broker running, and are host and port under [mqtt] right?"
        return [Check("broker", False, f"{where} cannot be reached: {reason}", remedy)]
    connected, detail = asyncio.run(_connect(mqtt))
    if not connected:
        return [Check("broker", False, detail, "see [mqtt] in docs/config.md")]
    encrypted = mqtt.tls or mqtt.host in ("localhost", "127.0.0.1", "::1")
    remedy = "" if encrypted else "without TLS anybody on the way can read it: set tls under [mqtt]"
    return [Check("broker", True if encrypted else None, detail, remedy)]


async def _connect(mqtt: MqttConfig) -> tuple[bool, str]:
    """Whether an MQTT connection comes about, and the broker's words on it.

    The client id is not the agent's own: a broker would end the running agent's connection for a second one.
    """
    from agent.mqtt import ConnectionStatus  # noqa: PLC0415 - paho, only when a broker is asked
    from agent.mqtt.configured import connection_to  # noqa: PLC0415

    refused = asyncio.Event()
    details: list[str] = []

    def note(status: ConnectionStatus) -> None:
        if not status.connected:
            details.append(status.detail)
            refused.set()

    client_id = f"{mqtt.client_id}-doctor"
    connection = connection_to(mqtt, client_id, clean_start=True, session_expiry_s=0, on_change=note)
    async with connection:
        connected = asyncio.create_task(connection.wait_connected())
        first_word = asyncio.create_task(refused.wait())
        await asyncio.wait({connected, first_word}, timeout=_CONNECT_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if not connected.done():
            await asyncio.wait({connected}, timeout=_FALLBACK_S)
        is_connected, detail = connected.done(), connection.status.detail
        connected.cancel()
        first_word.cancel()
    return is_connected, detail if is_connected or not details else details[0]


def _local_broker() -> Check:
    """Brokers the demo and the tests can start by themselves."""
    found = ["mosquitto"] if find_mosquitto() else []
    found += ["iotcore"] if importlib.util.find_spec("iotcore") else []
    if not found:
        return Check("local broker", None, "neither mosquitto nor iotcore", "for the demo: apt-get install mosquitto")
    return Check("local broker", None, f"{' and '.join(found)} can be started for the demo")


def _bluetooth(root: Path, config: Config | None) -> list[Check]:
    """What wearables need, which need not be here where the config has none."""
    from agent.doctor.bluetooth import bluetooth_checks  # noqa: PLC0415 - it makes Checks

    people = config.patients if config else ()
    return bluetooth_checks(root, wanted=any(isinstance(one, BleConfig) for who in people for one in who.sources))


def _serial(config: Config, root: Path) -> list[Check]:
    from agent.doctor.serial import serial_checks  # noqa: PLC0415 - it makes Checks

    return serial_checks(config, root)


def _temperature(root: Path) -> Check:
    celsius, reasons = cpu_temperature_c(root), throttling(root)
    if celsius is None and not reasons:
        return Check("temperature", None, "this machine does not say")
    detail = "; ".join([*([f"{celsius:.0f} °C"] if celsius is not None else []), *reasons])
    if reasons:
        return Check("temperature", None, detail, "a better power supply, a fan or a heat sink")
    if celsius is not None and celsius >= _HOT_C:
        return Check("temperature", None, detail, "a fan or a heat sink: the processor slows down when hot")
    return Check("temperature", True, detail)
