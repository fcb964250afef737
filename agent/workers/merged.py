"""One status of an agent, and its own alarms, from what its workers say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.uplink.messages import StatusMessage, StreamHealth, WorkerHealth
from agent.workers.shares import names

MAX_TEXT = 1000


@dataclass(frozen=True, slots=True)
class Part:
    """What is known of one worker."""

    worker: WorkerHealth
    patients: tuple[str, ...]
    trouble: str
    """Why it does not watch, where it died."""
    status: StatusMessage | None
    """What it said last."""
    stands: Mapping[str, str]
    """Alarms on the agent that it sees: rule → text."""


def merged_status(own: StatusMessage, parts: Sequence[Part]) -> StatusMessage:
    """`own`: what the parent says of itself; what patients, streams and devices are comes from the workers."""
    said = [part.status for part in parts if part.status is not None]
    counters: Counter[str] = Counter(own.counters)
    for status in said:
        counters.update(status.counters)
    reasons = [*own.reasons, *_unwatched(parts), *_reasons(parts)]
    first = said[0] if said else own
    return own.model_copy(
        update={
            "state": "degraded" if reasons else "online",
            "reasons": reasons,
            "streams": [stream for part in parts for stream in _streams(part)],
            "devices": [device for status in said for device in status.devices],
            "pauses": [*own.pauses, *(pause for status in said for pause in status.pauses)],
            "backends": first.backends,
            "packs": first.packs,
            "power": first.power,
            "counters": dict(counters),
            "disk_free_mb": min((one.disk_free_mb for one in said if one.disk_free_mb is not None), default=None),
            "last_alert_at": max((one.last_alert_at for one in said if one.last_alert_at), default=None),
            "workers": [part.worker for part in parts],
        }
    )


def merged_alarms(parts: Sequence[Part]) -> dict[str, str]:
    """What is on on the agent: rule → text."""
    alarms = {f"worker_down:{part.worker.worker}": _down(part)[:MAX_TEXT] for part in parts if part.trouble}
    for rule in dict.fromkeys(rule for part in parts for rule in part.stands):
        said = {part.worker.worker: part.stands[rule] for part in parts if rule in part.stands}
        alarms[rule] = _told(said, len(parts))[:MAX_TEXT]
    return alarms


def _unwatched(parts: Sequence[Part]) -> list[str]:
    """Who is not watched at this moment."""
    starting = [
        f"worker {part.worker.worker} is starting: not watched yet: {names(part.patients)}"
        for part in parts
        if part.worker.state == "starting" and not part.trouble and part.patients
    ]
    return [_down(part) for part in parts if part.trouble] + starting


def _down(part: Part) -> str:
    who = f"not watched: {names(part.patients)}" if part.patients else "it had nobody to watch"
    return f"Worker {part.worker.worker} {part.trouble}: {who}"


def _reasons(parts: Sequence[Part]) -> list[str]:
    """What the living say, once where all say it."""
    living = [part for part in parts if part.status is not None and not part.trouble]
    by_reason: dict[str, dict[int, str]] = {}
    for part in living:
        for reason in part.status.reasons if part.status is not None else ():
            by_reason.setdefault(reason, {})[part.worker.worker] = reason
    return [_told(said, len(living)) for said in by_reason.values()]


def _told(said: Mapping[int, str], of: int) -> str:
    """The words of some workers, without their numbers where all say the same."""
    by_text: dict[str, list[str]] = {}
    for worker, text in said.items():
        by_text.setdefault(text, []).append(str(worker))
    if len(by_text) == 1 and len(said) == of:
        return next(iter(by_text))
    return "; ".join(f"worker {', '.join(workers)}: {text}" for text, workers in by_text.items())


def _streams(part: Part) -> list[StreamHealth]:
    """Those of a worker that is down are silent, whatever it said last."""
    streams = part.status.streams if part.status is not None else []
    if not part.trouble:
        return streams
    detail = f"worker {part.worker.worker} {part.trouble}"
    return [stream.model_copy(update={"state": "silent", "detail": detail}) for stream in streams]
