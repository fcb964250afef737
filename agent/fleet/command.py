"""`vagus fleet`: how all agents are; `roll-out`: a version for them, ring by ring; `sign`: the order for it."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import logging
import os
import secrets
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from agent.config import PASSWORD_VARIABLE
from agent.config.reader import read_password
from agent.fleet.member import Member, member_of, worst_first
from agent.fleet.order import MAX_ORDER_BYTES, Order, RollOutFile, read_private_key, sign_both
from agent.fleet.roll_out import RollOut, Times
from agent.fleet.table import summary, table
from agent.fleet.watcher import Watcher
from agent.mqtt import MqttConnection, MqttError, SubscribeRefused
from agent.tls import client_context
from agent.uplink.evidence import rfc3339
from agent.uplink.topics import level
from firmware_bridge.chunk import NS_PER_S

QUIET_S = 1.0
CONNECT_S = 15.0
SETTLE_S = 20.0
_DAY_S = 86_400
NARROWEST = 160
"""Columns: on a smaller screen, or in a file, lines are long rather than cut."""


def fleet_command(args: argparse.Namespace) -> int:
    """0 done, 1 when the broker cannot be asked or a roll-out was taken back, 2 on wrong use."""
    try:
        if args.action == "sign":
            return _sign(args)
        return asyncio.run(_ask(args))
    except ImportError:
        sys.stderr.write("vagus fleet: orders need the package cryptography: pip install 'vagus[update]'\n")
        return 2
    except (SubscribeRefused, MqttError, TimeoutError) as error:
        words = f"no broker answers at {args.host}" if isinstance(error, TimeoutError) else str(error)
        sys.stderr.write(f"vagus fleet: {words}\n")
        return 1
    except (ValueError, OSError) as error:
        sys.stderr.write(f"vagus fleet: {error}\n")
        return 2


async def _ask(args: argparse.Namespace) -> int:
    logging.getLogger("agent").addHandler(logging.NullHandler())
    file = _read_order(args.order) if args.action == "roll-out" else None
    rings = _rings(args.rings) if file is not None else []
    connection = _connection(args)
    watcher = Watcher(connection)
    async with connection:
        hearing = asyncio.create_task(watcher.run(), name="statuses")
        try:
            async with asyncio.timeout(CONNECT_S):
                await connection.wait_connected()
        except TimeoutError:
            raise MqttError(connection.status.detail) from None
        await watcher.settled(QUIET_S, SETTLE_S)
        if refused := connection.status.refused_subscriptions:
            raise SubscribeRefused(refused[0], "not authorized")
        code = 0
        if file is None:
            _show(args, watcher)
        else:
            code = await _roll_out(args, RollOut(connection, watcher, file, _times(args), _say), rings)
        hearing.cancel()
        with suppress(asyncio.CancelledError):
            await hearing
    return code


def _connection(args: argparse.Namespace) -> MqttConnection:
    is_tls = args.ca_file or args.cert_file
    tls = client_context(args.ca_file, args.cert_file, args.key_file) if is_tls else None
    password = read_password(args.password_file) if args.password_file else os.environ.get(PASSWORD_VARIABLE)
    return MqttConnection(
        args.host,
        args.port or (8883 if tls else 1883),
        f"vagus-fleet-{secrets.token_hex(4)}",
        username=args.username,
        password=password if args.username else None,
        tls=tls,
        clean_start=True,
        session_expiry_s=0,
    )


def _show(args: argparse.Namespace, watcher: Watcher) -> None:
    now_ns = time.time_ns()
    members = [member_of(status, now_ns, watcher.last_at.get(agent)) for agent, status in watcher.statuses.items()]
    shown = [one for one in worst_first(members) if _is_asked_for(args, one)]
    if args.json:
        documents = [one.document() for one in shown]
        sys.stdout.write(
            json.dumps({"summary": summary(shown), "agents": documents}, ensure_ascii=False, indent=1) + "\n"
        )
        return
    console = Console(highlight=False, soft_wrap=True)
    console.width = max(console.width, NARROWEST)
    console.print(summary(shown), style="bold")
    if shown:
        console.print(table(shown))
    for agent in sorted(watcher.unreadable):
        console.print(f"the status of {agent!r} cannot be read", style="yellow", markup=False)


def _is_asked_for(args: argparse.Namespace, one: Member) -> bool:
    if args.silent and one.condition not in {"silent", "stale"}:
        return False
    return args.of_version is None or one.version == args.of_version


async def _roll_out(args: argparse.Namespace, roll_out: RollOut, rings: Sequence[str]) -> int:
    if not args.wait:
        await roll_out.publish_only(rings)
        return 0
    return 0 if await roll_out.run(rings) else 1


def _say(words: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {words}\n")
    sys.stdout.flush()


def _times(args: argparse.Namespace) -> Times:
    return Times(patience_s=args.patience, soak_s=args.soak)


def _rings(text: str | None) -> list[str]:
    names = [level(name.strip()) for name in (text or "").split(",") if name.strip()]
    if not names:
        raise ValueError("a roll-out needs --rings, such as --rings canary,ward,all")
    return names


def _read_order(path: Path | None) -> RollOutFile:
    if path is None:
        raise ValueError("a roll-out needs the file with the order: vagus fleet roll-out ORDER --rings …")
    with path.open("rb") as opened:
        text = opened.read(4 * MAX_ORDER_BYTES)
    try:
        file = RollOutFile.model_validate_json(text)
        file.install.read()
    except ValueError:
        raise ValueError(f"{path} is no order: vagus fleet sign makes one") from None
    return file


def _sign(args: argparse.Namespace) -> int:
    needed = ("order", "key", "bundle", "of_version", "sequence")
    if any(getattr(args, name) is None for name in needed):
        raise ValueError("sign needs ORDER (the file to write), --key, --bundle, --version and --sequence")
    content = args.bundle.read_bytes()
    order = Order(
        action="install",
        version=args.of_version,
        bundle=args.url or str(args.bundle.absolute()),
        sha256=hashlib.sha256(content).hexdigest(),
        length=len(content),
        sequence=args.sequence,
        expires=rfc3339(time.time_ns() + round(args.days * _DAY_S) * NS_PER_S),
        rings=_rings(args.rings) if args.rings else [],
    )
    args.order.write_text(sign_both(order, read_private_key(args.key)).model_dump_json(indent=1) + "\n")
    words = f"{args.order}: {order.version}, number {order.sequence}, and {order.sequence + 1} for the way back"
    sys.stdout.write(words + "\n")
    return 0
