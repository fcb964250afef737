"""Takes what the worker has stepped over to the disk, on a thread of its own: the worker never waits for it."""

from __future__ import annotations

import logging
import pickle
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from agent import __version__
from agent.alarms.alert import AlertEvent
from agent.engine import Engine
from agent.inference import Models
from agent.recorder.ring import Ring
from agent.recorder.segment import Head, Mark, Record, Tick
from firmware_bridge.chunk import Chunk

log = logging.getLogger(__name__)

SEGMENT_S = 3600.0
"""A file holds so much: to come back to an alert, at most so much is stepped over again."""
SEGMENT_BYTES = 32 << 20
"""Of samples: the same, of many leads and of what is played faster than it was."""
RETRY_S = 60.0
"""After a fault of the disk, before recording is tried anew."""
BEGUN_AT_START, BEGUN_A_TICK = 64, 4
"""A snapshot of a patient takes a millisecond or two of the worker's time, so a ward's recordings begin one by one."""
LOOK_S = 1.0
"""With nobody to begin for, it is looked this often whether there is."""
WAITING_BYTES = 16 << 20
"""Samples that may wait for the thread that writes; past it the recording has a hole."""
_POLL_S = 1.0


@dataclass(frozen=True, slots=True)
class _End:
    patient: str


@dataclass(frozen=True, slots=True)
class _Stop:
    pass


_Item = Head | list[tuple[str, Record]] | _End | _Stop


class Recorder:
    """Recordings of all patients of an engine. Every method belongs to the worker's thread; none waits for the disk."""

    def __init__(self, engine: Engine, models: Models, ring: Ring, *, mains_hz: float, late_after_s: float) -> None:
        """`models`, `mains_hz`, `late_after_s`: the engine's, which a replay must know."""
        self._engine, self._ring = engine, ring
        self._runtimes = {task: model.runtime for task, model in models.by_task.items()}
        self._mains_hz, self._late_after_s = mains_hz, late_after_s
        self._until_s: dict[str, float] = {}
        """Until when, of the monotonic clock, somebody's file is written to; who is not in it is not recorded."""
        self._bytes: Counter[str] = Counter()
        """Samples in the newest file of each."""
        self._quiet = set(engine.patients)
        """Of whom nothing is in the newest file yet."""
        self._retry_s = self._look_s = 0.0
        self._put_bytes = self._taken_bytes = 0
        self._lost = 0
        self._broken = ""
        self._items: SimpleQueue[_Item] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    # -- on the worker's thread ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin a file of everybody, or of the first of a ward; the others follow with `begin_due`."""
        self._begin(list(self._engine.patients)[:BEGUN_AT_START], time.monotonic())

    def begin_due(self) -> None:
        """Begin new files where that is due: in a tick in which nobody waits to be told of an alarm."""
        now_s = time.monotonic()
        if now_s < self._look_s:
            return
        if self._ring.trouble and now_s >= self._retry_s:
            self._retry_s = now_s + RETRY_S
            self._until_s.clear()
        elif self._ring.trouble:
            return
        due = [patient for patient in self._engine.patients if self._is_due(patient, now_s)]
        if not due:
            self._look_s = now_s + LOOK_S
        self._begin(due[:BEGUN_A_TICK], now_s)

    def begin_anew(self, patients: Iterable[str]) -> None:
        """What follows of them is decided another way, so it has a file of its own, that begins with their state."""
        self._begin([patient for patient in patients if patient in self._until_s], time.monotonic())

    def note(self, now_ns: int | None, chunks: Iterable[Chunk], events: Sequence[AlertEvent]) -> None:
        """A tick: the chunks that were stepped over at `now_ns`, and the events of the engine that they led to.

        A patient without either took no notice of the tick, but for the first after a start, when the silence of
        streams begins to be counted.
        """
        ticks: dict[str, list[Chunk]] = {patient: [] for patient in self._quiet}
        for chunk in chunks:
            ticks.setdefault(chunk.stream.patient, []).append(chunk)
        for event in events:
            ticks.setdefault(event.patient, [])
        records: list[tuple[str, Record]] = [(patient, Tick(now_ns, tuple(own))) for patient, own in ticks.items()]
        records += [(event.patient, Mark.of(event)) for event in events]
        taken = [record for record in records if record[0] in self._until_s and self._has_room(*record)]
        if taken:
            self._items.put(taken)
        self._quiet -= {patient for patient in ticks if patient in self._until_s}

    def interrupted(self) -> None:
        """The engine's state was set back after a fault: what follows does not follow from what was recorded."""
        for patient in self._until_s:
            self._items.put(_End(patient))
        self._until_s.clear()
        self._look_s = 0.0

    def close(self) -> None:
        """Write all there is; a disk that hangs is waited for no longer than some seconds."""
        self._items.put(_Stop())
        self._thread.join(timeout=5.0)

    @property
    def trouble(self) -> str:
        """Why not everything is recorded, in words for a status; "" when all is well."""
        return self._broken or self._ring.trouble

    @property
    def counters(self) -> Mapping[str, int]:
        """Numbers for a status."""
        return Counter(recorder_bytes=self._ring.size, recorder_lost=self._lost) + self._ring.counters

    def _is_due(self, patient: str, now_s: float) -> bool:
        until_s = self._until_s.get(patient)
        if until_s is None or self._bytes[patient] >= SEGMENT_BYTES:
            return True
        return now_s >= until_s and patient not in self._quiet

    def _begin(self, patients: Sequence[str], now_s: float) -> None:
        for patient in patients:
            self._items.put(self._head(patient))
            self._until_s[patient] = now_s + SEGMENT_S
            self._bytes[patient] = 0
            self._quiet.add(patient)

    def _head(self, patient: str) -> Head:
        state = self._engine.patients[patient]
        return Head(
            patient=patient,
            began_ns=time.time_ns(),
            version=__version__,
            packs=state.packs,
            runtimes=self._runtimes,
            mains_hz=self._mains_hz,
            late_after_s=self._late_after_s,
            person=pickle.dumps(state.person),
            state=self._engine.snapshot(patient),
        )

    def _has_room(self, patient: str, record: Record) -> bool:
        size = _size(record)
        if self._broken:
            return False
        if self._put_bytes - self._taken_bytes + size > WAITING_BYTES:
            self._lost += 1
            if self._until_s.pop(patient, None) is not None:
                log.error("recording of %s: the disk does not keep up, there is a hole", patient)
                self._look_s = 0.0
                self._items.put(_End(patient))
            return False
        self._put_bytes += size
        self._bytes[patient] += size
        return True

    # -- on the recorder's own ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._write()
        except Exception as error:  # a bug here must cost the recording alone, and be said
            log.exception("recording has stopped until the next start")
            self._broken = f"nothing is recorded until the next start: {type(error).__name__}"

    def _write(self) -> None:
        while True:
            try:
                item = self._items.get(timeout=_POLL_S)
            except Empty:
                self._ring.flush_due()
                continue
            match item:
                case Head():
                    self._ring.begin(item)
                case list():
                    for patient, record in item:
                        self._ring.take(patient, record)
                        self._taken_bytes += _size(record)
                case _End():
                    self._ring.end(item.patient)
                case _Stop():
                    self._ring.close()
                    return
            if self._items.empty():
                self._ring.flush_due()


def _size(record: Record) -> int:
    return sum(chunk.samples.nbytes for chunk in record.chunks) if isinstance(record, Tick) else 0
