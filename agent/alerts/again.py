"""`vagus replay --alert`: an alert made again from the recording."""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import closing
from pathlib import Path

from agent.alerts.command import state_folder
from agent.alerts.kept import KeptAlert, find_alert, said_of
from agent.alerts.words import plain, utc
from agent.config import Config, ConfigError, load_config
from agent.history.file import HistoryError
from agent.history.whole import open_whole_history
from agent.live_models import live_models
from agent.patient import Person
from agent.recorder.recreate import Recreated, Settings, recreate, segments_about
from agent.recorder.ring import recordings_of

OF_THE_SIGNAL = ("stream_silent", "lead_off", "poor_signal", "clock_step", "cgm_doubt")
"""Technical rules that the engine judges; the agent says the others of itself."""


def again_command(args: argparse.Namespace) -> int:
    """0 where every event came again to the byte, 1 where not, or the alert cannot be read, 2 on a faulty config."""
    try:
        config = load_config(args.config) if args.config else None
        state_dir = state_folder(args.state, config)
        alert, result = _made(state_dir, args.alert, config)
    except ConfigError as error:
        sys.stderr.write("".join(f"{fault}\n" for fault in error.faults))
        return 2
    except (HistoryError, LookupError, OSError) as error:
        sys.stderr.write(f"vagus replay: {error.args[0] if isinstance(error, LookupError) else error}\n")
        return 1
    sys.stdout.write(_as_json(alert, result) if args.json else _as_text(alert, result))
    return 0 if result.is_same else 1


def _made(state_dir: Path, start_of_id: str, config: Config | None) -> tuple[KeptAlert, Recreated]:
    with closing(open_whole_history(state_dir)) as db:
        alert = find_alert(db, start_of_id)
        said = said_of(db, alert)
    if alert.category == "technical" and alert.rule.partition(":")[0] not in OF_THE_SIGNAL:
        raise LookupError(f"{alert.rule} is what the agent says of itself: it comes from no recording")
    if not said:
        raise LookupError(f"of alert {alert.id} only the words are kept: there is nothing to compare with")
    segments = segments_about(recordings_of(state_dir, alert.patient), alert.patient, alert.id, said)
    models, _ = live_models(state_dir, "cpu", time.time_ns)
    return alert, recreate(segments, alert.id, said, models, _settings(config, alert.patient))


def _settings(config: Config | None, patient: str) -> Settings | None:
    if config is None:
        return None
    found = next((one for one in config.patients if one.id == patient), None)
    person = None if found is None else Person(patient, (), found.limits, found.glucose)
    return Settings(person, config.agent.mains_hz, config.agent.late_after_s)


def _as_text(alert: KeptAlert, result: Recreated) -> str:
    head = "made again to the byte" if result.is_same else "NOT made again to the byte"
    lines = [f"{alert.rule} of {plain(alert.patient)}, {utc(alert.onset_ns)} UTC, id {alert.id}: {head}"]
    lines += [f"  {phase:8}  {utc(at_ns)}  {'same' if same else 'differs'}" for phase, at_ns, same in result.events]
    lines += [f"  why: {plain(reason)}" for reason in result.reasons]
    lines += [f"  note: {plain(note)}" for note in result.notes]
    return "\n".join(lines) + "\n"


def _as_json(alert: KeptAlert, result: Recreated) -> str:
    told = {
        "alert_id": alert.id,
        "same": result.is_same,
        "events": [{"phase": phase, "at_ns": at_ns, "same": same} for phase, at_ns, same in result.events],
        "reasons": result.reasons,
        "notes": result.notes,
    }
    return json.dumps(told, ensure_ascii=False) + "\n"
