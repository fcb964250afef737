"""What the agent publishes about a simulated patient in ventricular tachycardia: an example of each kind of topic."""

from __future__ import annotations

import json
from typing import Any

from agent.alarms.alert import AlertEvent, Phase
from agent.engine import Engine
from agent.inference import shipped_models
from agent.ingest.simulate import DEMO_SCRIPT, SimulatedPatient
from agent.patient import Person
from agent.uplink.evidence import smaller
from agent.uplink.messages import AlertMessage, StatusMessage, StreamHealth, alert_messages, parse_event, vital_message
from agent.uplink.summary import Summaries, Watched
from agent.uplink.topics import Topics
from agent.vitals import vitals_of

SEED = 7
RULE = "ventricular_tachycardia"
TOPICS = Topics("living-room")
SAMPLES = 50
"""Of the strip of 2,500, so that the example can be read."""
_ENOUGH_BYTES = 4_096


def replayed() -> tuple[AlertEvent, Person, Engine]:
    """The alert of the replay, whom it is about, and the engine as it was when it was decided."""
    patient = SimulatedPatient(SEED, script=DEMO_SCRIPT[:4])
    person = Person("anna", (patient.stream("anna", "patch-1"),))
    engine = Engine([person], shipped_models())
    for chunk in patient.chunks(person.streams[0], chunk_s=1.0):
        for event in engine.step([chunk]):
            if event.rule == RULE and event.phase is Phase.START:
                return event, person, engine
    raise AssertionError(f"the script gave no {RULE}")


def examples() -> dict[str, Any]:
    """A payload for each kind of topic."""
    event, person, engine = replayed()
    said, state, *_ = alert_messages(event, TOPICS, seq=17, boot_id=3)
    (summary,) = Summaries(TOPICS, {person.id: Watched.of(person)}).take([event], seq=17, boot_id=3)
    vital = next(vitals_of(engine.patients[person.id], None, None))
    stream = person.streams[0]
    health = StreamHealth(patient=person.id, device=stream.device, channel=stream.channel, kind=stream.kind, state="ok")
    status = StatusMessage(agent=TOPICS.agent, state="online", version="0.1.0", boot_id=3, streams=[health])
    asked = {"patient": person.id, "by": "nurse-3"}
    return {
        "event": _readable(said.payload),
        "alarm": _readable(state.payload),
        "summary": json.loads(summary.payload),
        "status": json.loads(status.payload()),
        "vital": json.loads(vital_message(vital.message, TOPICS).payload),
        "cmd_ack": {**asked, "alert_id": event.alert_id},
        "cmd_pause": {**asked, "rule": "pvc_burden", "minutes": 30},
        "cmd_drill": {**asked, "rule": "asystole", "seconds": 30},
        "cmd_answer": {"accepted": True, "words": "acknowledged"},
        "cmd_verdict": {**asked, "alert_id": event.alert_id, "verdict": "true", "note": "seen on the monitor too"},
    }


def _readable(payload: bytes) -> Any:
    """The alert with a strip of no more than SAMPLES, which says that the rest was left out."""
    message: AlertMessage = parse_event(payload)
    evidence = message.data.evidence
    while evidence is not None and len(evidence.strip.samples[0]) > SAMPLES:
        strip = smaller(evidence.strip, _ENOUGH_BYTES)
        if strip is None:
            break
        evidence = evidence.model_copy(update={"strip": strip})
    data = message.data.model_copy(update={"evidence": evidence})
    return json.loads(message.model_copy(update={"data": data}).model_dump_json(exclude_none=True))
