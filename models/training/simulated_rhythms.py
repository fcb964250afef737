"""Rhythms that nobody was recorded in, played with a person's own beats.

The recordings hold few people with many supraventricular beats, and hardly any in whom these last for minutes. So for
each person beats are cut out of the recording and put together again in an invented rhythm: sinus rhythm that breathes
and speeds up by and by, single and repeated atrial premature beats, atrial bigeminy, atrial tachycardias from seconds
to minutes, atrial fibrillation, and the person's own ventricular beats. What a rhythm does is after the textbooks
(Wagner, Marriott's Practical Electrocardiography): an atrial beat has another P wave or none to be seen and resets the
sinus node; a ventricular one is mostly made up for by the pause; an atrial tachycardia begins and ends abruptly, a
sinus tachycardia does not.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from models.training.datasets import Recording

Float64 = npt.NDArray[np.float64]

SECONDS = 700.0
_BEFORE_S = 0.24
_AFTER_S = 0.50
_P_ENDS_S = 0.06
_T_BEGINS_S = 0.07
_FEWEST_NORMAL = 60
_FEWEST_VENTRICULAR = 4
_MOST = 400


@dataclass(frozen=True, slots=True)
class PWave:
    """What becomes of a beat's own P wave."""

    factor: float = 1.0
    shift_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Played:
    """One beat of an invented rhythm."""

    rr_s: float
    aami: str
    p_wave: PWave | None = None
    fibrillates: bool = False


def simulate(recording: Recording, rng: np.random.Generator) -> Recording | None:
    """An invented rhythm of SECONDS in one lead, or None where too few normal beats stand alone in the recording."""
    rate = recording.rate_hz
    signal = recording.signals[:, recording.lead]
    if recording.signals.shape[1] > 1 and rng.random() < 0.4:
        angle = rng.uniform(0.0, 1.0) * np.pi
        signal = np.cos(angle) * signal + np.sin(angle) * recording.signals[:, 1 - recording.lead]
    normal = _complexes(recording, signal, "N", rng)
    ventricular = _complexes(recording, signal, "V", rng)
    if len(normal) < _FEWEST_NORMAL:
        return None
    if len(ventricular) < _FEWEST_VENTRICULAR:
        ventricular = []
    rhythm = list(_rhythm(rng, bool(ventricular)))
    times_s = 1.0 + np.cumsum([beat.rr_s for beat in rhythm])
    following_s = [beat.rr_s for beat in rhythm[1:]] + [1.0]
    out = np.zeros(int((times_s[-1] + 4.0) * rate))
    samples: list[int] = []
    classes: list[str] = []
    own = int(rng.integers(len(normal)))
    for beat, at_s, next_s in zip(rhythm, times_s.tolist(), following_s, strict=True):
        own = (own + int(rng.integers(1, 4))) % len(normal)
        if beat.aami == "V":
            shape = ventricular[int(rng.integers(len(ventricular)))]
        else:
            shape = _hurried(_with_p_wave(normal[own], beat.p_wave, rate), min(beat.rr_s, next_s), rate)
        r = round(at_s * rate)
        start = r - int(_BEFORE_S * rate)
        if start < 0 or start + len(shape) > len(out):
            continue
        out[start : start + len(shape)] += shape
        samples.append(r)
        classes.append(beat.aami)
    size = float(np.percentile(out, 99.5) - np.percentile(out, 0.5))
    _fibrillate(out, rhythm, times_s, rate, size * rng.uniform(0.0, 0.06), rng)
    out += size * rng.uniform(0.002, 0.012) * rng.normal(size=len(out))
    out += size * 0.0008 * np.cumsum(rng.normal(size=len(out)))
    return replace(
        recording,
        signals=out[:, None],
        lead=0,
        beat_samples=np.array(samples, dtype=np.int64),
        beat_classes=np.array(classes),
        unscored=(),
    )


def seeded(recording: Recording, number: int) -> np.random.Generator:
    """The same numbers for the same person each time."""
    return np.random.default_rng([number, zlib.crc32(recording.record.patient.encode())])


def _complexes(recording: Recording, signal: Float64, aami: str, rng: np.random.Generator) -> list[Float64]:
    """Beats of one class from before P to after T, faded into nought at both ends; normal ones with room around."""
    rate, beats, classes = recording.rate_hz, recording.beat_samples, recording.beat_classes
    before = int(_BEFORE_S * rate)
    chosen = [
        i
        for i in range(2, len(beats) - 2)
        if classes[i] == aami and (aami != "N" or (classes[i - 1] == classes[i + 1] == "N"))
    ]
    rng.shuffle(chosen)
    out: list[Float64] = []
    for i in chosen:
        next_s, last_s = (beats[i + 1] - beats[i]) / rate, (beats[i] - beats[i - 1]) / rate
        after = int(min(_AFTER_S, next_s - 0.22) * rate)
        is_crowded = aami == "N" and min(next_s, last_s) < 0.6
        if is_crowded or after < 0.3 * rate or beats[i] < before or beats[i] + after > len(signal):
            continue
        shape = signal[beats[i] - before : beats[i] + after].copy()
        ends = max(2, int(0.02 * rate))
        shape -= np.linspace(np.median(shape[:ends]), np.median(shape[-ends:]), len(shape))
        fade = 0.5 - 0.5 * np.cos(np.linspace(0.0, np.pi, int(0.04 * rate)))
        shape[: len(fade)] *= fade
        shape[-len(fade) :] *= fade[::-1]
        out.append(shape)
        if len(out) == _MOST:
            break
    return out


def _with_p_wave(shape: Float64, wanted: PWave | None, rate: float) -> Float64:
    if wanted is None:
        return shape
    shape = shape.copy()
    end = int(_BEFORE_S * rate) - int(_P_ENDS_S * rate)
    p = np.roll(shape[:end], int(wanted.shift_s * rate)) * wanted.factor
    fade = np.linspace(0.0, 1.0, max(2, int(0.02 * rate)))
    p[-len(fade) :] = p[-len(fade) :] * (1.0 - fade) + shape[end - len(fade) : end] * fade
    shape[:end] = p
    return shape


def _hurried(shape: Float64, interval_s: float, rate: float) -> Float64:
    """The QT interval shortens with the root of the interval (Bazett 1920)."""
    if interval_s >= 0.7:
        return shape
    begin = int((_BEFORE_S + _T_BEGINS_S) * rate)
    tail = shape[begin:]
    length = max(8, int(len(tail) * max(0.55, math.sqrt(interval_s / 0.8))))
    return np.concatenate((shape[:begin], np.interp(np.linspace(0, len(tail) - 1, length), np.arange(len(tail)), tail)))


def _fibrillate(
    out: Float64, rhythm: list[Played], times_s: Float64, rate: float, size: float, rng: np.random.Generator
) -> None:
    """Add fibrillation waves of 4 to 8 Hz where the atria fibrillate."""
    where = np.interp(np.arange(len(out)) / rate, times_s, [float(beat.fibrillates) for beat in rhythm])
    frequency_hz = 6.0 + 0.02 * np.cumsum(rng.normal(size=len(out))) * math.sqrt(100.0 / rate)
    phase = 2.0 * np.pi * np.cumsum(np.clip(frequency_hz, 4.0, 8.0)) / rate
    out += size * where * (np.sin(phase) + 0.3 * np.sin(2.0 * phase))


def _some_p_wave(rng: np.random.Generator) -> PWave:
    """Of an ectopic focus: not to be seen, upside down, small, large, or the usual one."""
    kind = rng.random()
    if kind < 0.25:
        return PWave(0.0)
    low, high = (-1.2, -0.3) if kind < 0.55 else (0.2, 0.7) if kind < 0.80 else (1.3, 1.8)
    return PWave() if kind >= 0.90 else PWave(rng.uniform(low, high), rng.uniform(-0.03, 0.03))


class _Sinus:
    """Sinus intervals: a mean that wanders, breathing, and a little chance."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self.mean_s = float(rng.uniform(0.62, 1.05))
        self._breathing = float(rng.uniform(0.005, 0.05) if rng.random() < 0.7 else rng.uniform(0.05, 0.16))
        self._drift = self._phase = 0.0

    def next_s(self) -> float:
        self._drift = 0.98 * self._drift + 0.006 * self._rng.normal()
        self._phase += 0.5 + 0.1 * self._rng.normal()
        wander = self._drift + self._breathing * math.sin(self._phase) + 0.008 * self._rng.normal()
        return self.mean_s * math.exp(wander)


def _rhythm(rng: np.random.Generator, has_ventricular: bool) -> Iterator[Played]:
    """Episodes one after the other, at least SECONDS long."""
    sinus = _Sinus(rng)
    atrial = float(rng.choice([0.0, 0.01, 0.04, 0.1, 0.25]))
    ventricular = float(rng.choice([0.0, 0.02, 0.08, 0.2])) if has_ventricular else 0.0
    focus, atrial_early, ventricular_early = _some_p_wave(rng), rng.uniform(0.5, 0.88), rng.uniform(0.45, 0.8)
    passed_s = 0.0
    while passed_s < SECONDS:
        kind = rng.random()
        if kind < 0.006:
            episode = _atrial_tachycardia(rng, sinus)
        elif kind < 0.010:
            episode = _sinus_tachycardia(rng, sinus)
        elif kind < 0.016:
            episode = _atrial_bigeminy(rng, sinus, focus)
        elif kind < 0.020:
            episode = _atrial_fibrillation(rng)
        elif kind < 0.020 + atrial:
            episode = _atrial_beats(rng, sinus, focus, atrial_early)
        elif kind < 0.020 + atrial + ventricular:
            episode = _ventricular_beats(rng, sinus, ventricular_early)
        else:
            episode = iter((Played(sinus.next_s(), "N"),))
        for beat in episode:
            passed_s += max(0.28, beat.rr_s)
            yield replace(beat, rr_s=max(0.28, beat.rr_s))


def _atrial_tachycardia(rng: np.random.Generator, sinus: _Sinus) -> Iterator[Played]:
    beats = int(math.exp(rng.uniform(math.log(8), math.log(500))))
    rr_s = min(rng.uniform(0.34, 0.56), 0.78 * sinus.mean_s)
    p_wave = _some_p_wave(rng)
    for _ in range(beats):
        yield Played(rr_s * (1 + 0.012 * rng.normal()), "S", p_wave)
    yield Played(sinus.mean_s * rng.uniform(1.0, 1.5), "N")


def _sinus_tachycardia(rng: np.random.Generator, sinus: _Sinus) -> Iterator[Played]:
    beats, steps = int(rng.uniform(60, 200)), int(rng.uniform(30, 120))
    fast_s = min(rng.uniform(0.45, 0.62), 0.9 * sinus.mean_s)
    ramp = np.linspace(sinus.mean_s, fast_s, steps)
    for rr_s in (*ramp, *np.full(beats, fast_s), *ramp[::-1]):
        yield Played(float(rr_s) * (1 + 0.01 * rng.normal()), "N")


def _atrial_fibrillation(rng: np.random.Generator) -> Iterator[Played]:
    """Its beats are no ectopy: they count as N."""
    mean_s, spread = rng.uniform(0.45, 0.9), rng.uniform(0.10, 0.26)
    for _ in range(int(rng.uniform(40, 300))):
        yield Played(mean_s * math.exp(spread * rng.normal()), "N", PWave(0.0), fibrillates=True)


def _atrial_bigeminy(rng: np.random.Generator, sinus: _Sinus, focus: PWave) -> Iterator[Played]:
    early, back = rng.uniform(0.55, 0.92), rng.uniform(1.0, 1.12)
    between = 0 if rng.random() < 0.7 else 1
    p_wave = _some_p_wave(rng) if rng.random() < 0.5 else focus
    for _ in range(int(rng.uniform(10, 120))):
        for _ in range(between):
            yield Played(sinus.next_s(), "N")
        rr_s = sinus.next_s()
        yield Played(early * rr_s, "S", p_wave)
        yield Played(back * rr_s, "N")


def _atrial_beats(rng: np.random.Generator, sinus: _Sinus, focus: PWave, early: float) -> Iterator[Played]:
    rr_s = sinus.next_s()
    share = min(early * math.exp(0.05 * rng.normal()), 0.93)
    yield Played(share * rr_s, "S", focus)
    for _ in range(0 if rng.random() < 0.75 else int(rng.integers(1, 6))):
        yield Played(rng.uniform(0.85, 1.1) * share * rr_s, "S", focus)
    yield Played(rng.uniform(0.95, 1.25) * rr_s, "N")


def _ventricular_beats(rng: np.random.Generator, sinus: _Sinus, early: float) -> Iterator[Played]:
    rr_s = sinus.next_s()
    share = early * math.exp(0.07 * rng.normal())
    yield Played(share * rr_s, "V")
    more = 0 if rng.random() < 0.85 else int(rng.integers(1, 4))
    for _ in range(more):
        yield Played(rng.uniform(0.4, 0.65), "V")
    made_up = not more and rng.random() < 0.85
    yield Played(max(2.0 - share, 0.6) * rr_s if made_up else rng.uniform(0.9, 1.3) * rr_s, "N")
