"""`vagus drill`: sound an alarm that is none, the whole way, and see who hears and acknowledges it."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import logging
import secrets
import sys
import time
from pathlib import Path

from agent.alarms.states import PHYSIOLOGICAL
from agent.config import Config, ConfigError, load_config
from agent.mqtt import MqttError
from agent.mqtt.configured import connection_to
from agent.uplink.messages import AlertData, parse_event
from agent.uplink.topics import Topics

CONNECT_S = 10.0
HEARD_S = 10.0


def drill_command(args: argparse.Namespace) -> int:
    """`vagus drill CONFIG`: 0 where the drill came back from the broker, 1 where it did not, 2 on wrong use."""
    try:
        config = load_config(Path(args.config))
    except ConfigError as error:
        sys.stderr.write("".join(f"{fault}\n" for fault in error.faults))
        return 2
    patients = [patient.id for patient in config.patients]
    patient = args.patient or patients[0]
    if patient not in patients:
        sys.stderr.write(f"vagus drill: nobody is called {patient!r}: there are {', '.join(patients)}\n")
        return 2
    if args.rule not in PHYSIOLOGICAL:
        sys.stderr.write(f"vagus drill: {args.rule!r} is no alarm about a person: {', '.join(PHYSIOLOGICAL)}\n")
        return 2
    logging.getLogger("agent").addHandler(logging.NullHandler())
    try:
        return asyncio.run(_drill(config, patient, args.rule, args.seconds))
    except (MqttError, TimeoutError) as error:
        sys.stderr.write(f"vagus drill: {error or 'the broker cannot be reached'}\n")
        return 1
    except KeyboardInterrupt:
        return 130


async def _drill(config: Config, patient: str, rule: str, duration_s: float) -> int:
    mqtt, topics = config.mqtt, Topics(config.agent.id)
    client_id = f"vagus-drill-{secrets.token_hex(4)}"
    connection = connection_to(mqtt, client_id, clean_start=True, session_expiry_s=0)
    async with connection:
        async with asyncio.timeout(CONNECT_S):
            await connection.wait_connected()
        await connection.subscribe(topics.event(patient))
        command_id = secrets.token_hex(8)
        by = f"drill {command_id[:4]} of {getpass.getuser()}"[:64]
        asked = {"id": command_id, "patient": patient, "rule": rule, "seconds": duration_s, "by": by}
        began_s = time.monotonic()
        await connection.publish(topics.command("drill"), json.dumps(asked).encode())
        heard = False
        messages = connection.messages()
        try:
            async with asyncio.timeout(HEARD_S) as limit:
                async for message in messages:
                    connection.ack(message)
                    event = parse_event(message.payload).data
                    if not event.drill or (not heard and by not in event.text):
                        continue
                    heard = True
                    limit.reschedule(asyncio.get_running_loop().time() + duration_s + HEARD_S)
                    sys.stdout.write(f"after {time.monotonic() - began_s:6.2f} s: {event.phase:<11} {_words(event)}\n")
                    sys.stdout.flush()
                    if event.phase == "end":
                        break
        except TimeoutError:
            sys.stdout.write(
                "its end was not heard\n"
                if heard
                else f"nothing was heard within {HEARD_S:.0f} s: does the agent run?\n"
            )
            return 1
    return 0


def _words(event: AlertData) -> str:
    if event.phase != "end":
        return event.text
    if event.acknowledged is None:
        return f"{event.text}; nobody acknowledged it"
    return f"{event.text}; acknowledged by {event.acknowledged.by}"
