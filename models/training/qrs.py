"""Trains the QRS detector's candidate networks (`agent/signal/beat_weights.py`), and scores the detector.

    python -m models.training.qrs train DATA                 fit on DS1 + svdb, write the weights
    python -m models.training.qrs cross DATA                 fit on one database, score the other
    python -m models.training.qrs score DATA                 score the shipped weights, with noise stress

The detector runs over the recordings, clean and altered, with the networks of the round before; every candidate it
asks about becomes an example, labelled by the reference beats. So the networks learn on the states that they
themselves lead the detector into.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from agent.scoring import BeatScore, format_table, gross, score_beats
from agent.signal import beat_scorer
from agent.signal.beats import CONFIRM_S, BeatMark, QrsDetector
from agent.signal.filters import EcgFilters
from agent.signal.resample import ANALYSIS_RATE_HZ, Resampler
from models.training.datasets import Record, beat_records, read, read_noise
from models.training.noise_stress import add_noise, noise_power, stress_schedule

Float64 = npt.NDArray[np.float64]
Networks = dict[bool, tuple[Float64, Float64]]
"""By whether the future is known: (hidden [inputs + 1, units], output [units + 1]), biases last."""

WEIGHTS = Path(__file__).parents[2] / "agent" / "signal" / "beat_weights.py"
UNITS = 24
ROUNDS = 3
ALTERED_COPIES = {"mitdb": 2, "svdb": 1}
SVDB_WEIGHT = 0.6
"""svdb has three times DS1's beats; its weight brings the two nearer."""
LABEL_S = 0.13
"""A candidate this near a reference beat may be it."""
CHUNK = 20 * ANALYSIS_RATE_HZ


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A signal and the truth about it."""

    name: str
    x: Float64
    """(n,) mV at 250 Hz."""
    beats: npt.NDArray[np.int64]
    """Reference beats, samples at 250 Hz."""
    unscored_s: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """What a network learns from: candidates of many recordings."""

    inputs: npt.NDArray[np.float32]
    label: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]
    final: npt.NDArray[np.bool_]


class ListeningDetector(QrsDetector):
    """The detector with networks of our own, which keeps what it was asked."""

    def __init__(self, networks: Networks | None) -> None:
        self._networks = networks
        self.asked: list[tuple[npt.NDArray[np.int64], Float64]] = []

    def score(self, rows: Sequence[int], measurements: Float64) -> Float64:
        """Log odds as the candidate networks give them; before there are any, by a plain threshold."""
        self.asked.append((np.array(rows), measurements))
        if self._networks is None:
            return _plain_threshold(measurements)
        x = beat_scorer.inputs(measurements)
        final = measurements[:, 0] > 0.5
        out = np.empty(len(x))
        for known, (hidden, output) in self._networks.items():
            units = np.maximum(x[final == known] @ hidden[:-1] + hidden[-1], 0)
            out[final == known] = units @ output[:-1] + output[-1]
        return out


def _plain_threshold(measurements: Float64) -> Float64:
    """Hamilton's threshold between noise and beats, and a T wave by its slope: enough to begin with."""
    amplitude, faded, noise, slope = (measurements[:, k] for k in (2, 4, 5, 6))
    last_slope, gap_s = measurements[:, 9], measurements[:, 15] / ANALYSIS_RATE_HZ
    odds = np.log(amplitude / (noise + 0.33 * np.maximum(faded - noise, 0)))
    refused = (gap_s < 0.24) | ((gap_s < 0.36) & (slope < 0.5 * last_slope))
    return np.where(refused, -3.0, odds)


def detect(cases: Sequence[Case], detector: QrsDetector) -> list[list[BeatMark]]:
    """All statements about each case, streamed; a second of held last sample lets the last beat be confirmed."""
    length = max(len(case.x) for case in cases) + ANALYSIS_RATE_HZ
    x = np.stack([np.pad(case.x, (0, length - len(case.x)), mode="edge") for case in cases])
    filters = EcgFilters()
    filter_states, states = [filters.new_state() for _ in cases], [detector.new_state() for _ in cases]
    marks: list[list[BeatMark]] = [[] for _ in cases]
    for start in range(0, length, CHUNK):
        paths = filters.push(filter_states, x[:, start : start + CHUNK])
        for known, new in zip(marks, detector.push(states, *paths), strict=True):
            known.extend(new)
    return marks


def examples(cases: Sequence[Case], networks: Networks | None) -> Examples:
    """Every candidate the detector asks about, labelled."""
    detector = ListeningDetector(networks)
    detect(cases, detector)
    row = np.concatenate([rows for rows, _ in detector.asked])
    measured = np.concatenate([measurements for _, measurements in detector.asked])
    final = measured[:, 0] > 0.5
    r_index = measured[:, 1]
    label, weight = np.zeros(len(row)), np.ones(len(row))
    for i, case in enumerate(cases):
        for known in (False, True):
            own = np.flatnonzero((row == i) & (final == known))
            own = own[np.argsort(r_index[own], kind="stable")]
            label[own[_nearest(r_index[own], case.beats)]] = 1
        for low_s, high_s in case.unscored_s:
            at_s = r_index / ANALYSIS_RATE_HZ
            weight[(row == i) & (at_s > low_s - 0.2) & (at_s < high_s + 0.2)] = 0
        if case.name.startswith("svdb"):
            weight[row == i] *= SVDB_WEIGHT
    return Examples(
        beat_scorer.inputs(measured).astype(np.float32), label.astype(np.float32), weight.astype(np.float32), final
    )


def _nearest(candidates: Float64, beats: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Positions in ascending `candidates` of the one nearest to each beat, where one is near enough."""
    if not len(candidates):
        return np.empty(0, dtype=np.int64)
    after = np.clip(np.searchsorted(candidates, beats), 0, len(candidates) - 1)
    before = np.maximum(after - 1, 0)
    nearest = np.where(np.abs(candidates[before] - beats) < np.abs(candidates[after] - beats), before, after)
    near: npt.NDArray[np.int64] = nearest[np.abs(candidates[nearest] - beats) <= LABEL_S * ANALYSIS_RATE_HZ]
    return near


def altered(case: Case, noises: dict[str, list[Float64]], rng: np.random.Generator) -> Case:
    """The case as another day might give it: inverted, noisy, still or unplugged in stretches, with gain and steps."""
    x, beats, length = case.x.copy(), case.beats, len(case.x)
    if rng.random() < 0.3:
        x = -x
    on = np.zeros(length)
    for _ in range(20):
        start = int(rng.integers(0, length))
        on[start : start + rng.integers(5, 90) * ANALYSIS_RATE_HZ] = rng.choice([0, 1, 1])
    x = add_noise(x, beats, _some_noise(noises, rng, (0.6, 0.3, 0.1)), rng.uniform(0, 20), on)
    for k in range(rng.integers(0, 12)):
        start = 0 if k == 0 and rng.random() < 0.4 else int(rng.integers(0, length - 70 * ANALYSIS_RATE_HZ))
        stop = start + rng.integers(3, rng.choice([15, 60])) * ANALYSIS_RATE_HZ
        noise = _some_noise(noises, rng, (1 / 3, 1 / 3, 1 / 3))[: stop - start]
        level_mv = rng.choice([0, 0.01, 0.03, 0.1, 0.2]) * rng.uniform(0.3, 1)
        x[start:stop] = x[start] + (noise - noise[0]) * level_mv / np.sqrt(noise_power(noise))
        beats = beats[(beats < start - 12) | (beats > stop + 12)]
    for _ in range(rng.integers(0, 5)):
        start = int(rng.integers(0, length - 20 * ANALYSIS_RATE_HZ))
        stop = start + int(rng.integers(5, 15)) * ANALYSIS_RATE_HZ
        lost = beats[(beats >= start) & (beats < stop)]
        _drop_ventricles(x, lost, beats)
        beats = np.setdiff1d(beats, lost)
    for _ in range(rng.integers(0, 8)):
        x[rng.integers(0, length) :] *= np.exp(rng.uniform(-0.6, 0.6))
    for _ in range(rng.integers(0, 10)):
        x[rng.integers(0, length) :] += 2 * rng.normal()
    return Case(case.name, x, beats, case.unscored_s)


def _drop_ventricles(x: Float64, lost: npt.NDArray[np.int64], beats: npt.NDArray[np.int64]) -> None:
    """Take QRS and T of the `lost` beats out of `x`, in place, and leave the P waves: a ventricular standstill."""
    for r in lost.tolist():
        following = beats[beats > r][:1].tolist() or [r + ANALYSIS_RATE_HZ]
        low, high = max(r - 20, 0), min(r + 115, following[0] - 60, len(x) - 1)
        if high > low:
            x[low:high] = np.linspace(x[low], x[high], high - low)


def _some_noise(noises: dict[str, list[Float64]], rng: np.random.Generator, odds: tuple[float, ...]) -> Float64:
    """One channel of electrode motion, muscle or wander, from anywhere, either way up."""
    channels = noises[str(rng.choice(["em", "ma", "bw"], p=odds))]
    noise = channels[rng.integers(len(channels))]
    rolled: Float64 = np.roll(noise, rng.integers(len(noise))) * rng.choice([-1, 1])
    return rolled


def fit(parts: Sequence[Examples], epochs: int, seed: int) -> Networks:
    """One network for candidates without and one for those with their future."""
    networks: Networks = {}
    for known in (False, True):
        chosen = [(part.final == known) & (part.weight > 0) for part in parts]
        x, y, w = (
            torch.from_numpy(
                np.concatenate([getattr(part, name)[rows] for part, rows in zip(parts, chosen, strict=True)])
            )
            for name in ("inputs", "label", "weight")
        )
        networks[known] = _fit_one(x, y, w, epochs, seed)
    return networks


def _fit_one(
    x: torch.Tensor, y: torch.Tensor, w: torch.Tensor, epochs: int, seed: int, batch: int = 1024
) -> tuple[Float64, Float64]:
    torch.manual_seed(seed)
    centre, scale = x.mean(0), x.std(0) + 1e-2
    scaled = (x - centre) / scale
    network = torch.nn.Sequential(torch.nn.Linear(x.shape[1], UNITS), torch.nn.ReLU(), torch.nn.Linear(UNITS, 1))
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=1e-3)
    batches = len(x) // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=epochs * batches + 1)
    for _ in range(epochs):
        order = torch.randperm(len(x))
        for k in range(batches):
            rows = order[k * batch : (k + 1) * batch]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(network(scaled[rows])[:, 0], y[rows], w[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    first, second = network[0], network[2]
    hidden = (first.weight.detach() / scale).double().numpy().T
    bias = first.bias.detach().double().numpy() - centre.double().numpy() @ hidden
    output = np.append(second.weight.detach().double().numpy()[0], float(second.bias.detach()[0]))
    return np.vstack((hidden, bias)), output


def train(cases: Sequence[Case], noises: dict[str, list[Float64]], seed: int = 0) -> Networks:
    """Rounds of running the detector, keeping the last two rounds' examples, and fitting anew."""
    rng = np.random.default_rng(seed)
    networks: Networks | None = None
    rounds: list[list[Examples]] = []
    for number in range(ROUNDS):
        parts = []
        for database, copies in ALTERED_COPIES.items():
            own = [case for case in cases if case.name.startswith(database)]
            if own:
                copied = [altered(case, noises, rng) for _ in range(copies) for case in own]
                parts.append(examples([*own, *copied], networks))
        rounds = [*rounds[-1:], parts]
        networks = fit([part for known in rounds for part in known], 18 if number == ROUNDS - 1 else 8, seed)
    if networks is None:
        raise ValueError("no rounds")
    return networks


def score(cases: Sequence[Case], detector: QrsDetector, status: str) -> list[BeatScore]:
    """EC57 scores of the beats with this status."""
    return [
        score_beats(
            case.name,
            case.beats / ANALYSIS_RATE_HZ,
            np.sort([mark.r_index for mark in marks if mark.status == status]) / ANALYSIS_RATE_HZ,
            exclude_s=case.unscored_s,
        )
        for case, marks in zip(cases, detect(cases, detector), strict=True)
    ]


def load(data: Path, records: Iterable[Record]) -> list[Case]:
    """Analysis leads at 250 Hz with their reference beats."""
    cases = []
    for record in records:
        recording = read(data, record)
        rate = recording.rate_hz
        cases.append(
            Case(
                f"{record.database}/{record.name}",
                Resampler(rate).push(np.nan_to_num(recording.signals[:, recording.lead])),
                np.round(recording.beat_samples * (ANALYSIS_RATE_HZ / rate)).astype(np.int64),
                tuple((low / rate, high / rate) for low, high in recording.unscored),
            )
        )
    return cases


def load_noises(data: Path, share: slice) -> dict[str, list[Float64]]:
    """Noise channels at 250 Hz, each cut to the given twentieths of the available half."""
    out: dict[str, list[Float64]] = {}
    for name, signals in read_noise(data).items():
        twentieth = len(signals) // 20
        part = signals[slice((share.start or 0) * twentieth, (share.stop or 20) * twentieth)]
        out[name] = [Resampler(360).push(part[:, channel]) for channel in range(part.shape[1])]
    return out


def write_weights(networks: Networks, path: Path) -> None:
    """Networks as a module of constants, five significant digits."""
    lines = ['"""Weights of the candidate networks, written by `models/training/qrs.py`, not by hand."""', ""]
    lines += ["# fmt: off", "from __future__ import annotations", "", "Rows = tuple[tuple[float, ...], ...]", ""]
    for known, name in ((False, "PROVISIONAL"), (True, "CONFIRMED")):
        hidden, output = networks[known]
        lines.append(f"{name}_HIDDEN: Rows = (")
        for row in hidden:
            lines += ["    (", _wrapped(row, 8) + ",", "    ),"]
        lines += [")", f"{name}_OUTPUT: tuple[float, ...] = (", _wrapped(output, 4) + ",", ")"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _wrapped(values: Float64, indent: int) -> str:
    text = ", ".join(f"{value:.5g}" for value in values)
    return textwrap.fill(text, 116, initial_indent=" " * indent, subsequent_indent=" " * indent)


def print_scores(title: str, cases: Sequence[Case], detector: QrsDetector) -> None:
    """The table of confirmed beats and the gross line of the provisional ones."""
    print(f"\n{title}: analysis lead, streamed, 150 ms window, from 300 s, confirmed after {CONFIRM_S} s")
    print(format_table(score(cases, detector, "confirmed")))
    print("provisional " + format_table([gross(score(cases, detector, "provisional"))]).splitlines()[-1])


def print_stress(cases: Sequence[Case], noise: Float64, detector: QrsDetector) -> None:
    """Error rates of 118 and 119 with electrode motion."""
    chosen = [case for case in cases if case.name in {"mitdb/118", "mitdb/119"}]
    for snr_db in (24, 18, 12, 6, 0):
        noisy = [
            Case(c.name, add_noise(c.x, c.beats, noise, snr_db, stress_schedule(len(c.x))), c.beats, ()) for c in chosen
        ]
        total = gross(score(noisy, detector, "confirmed"))
        print(f"em {snr_db:2d} dB: error {100 * total.error_rate:5.2f} % (missed {total.missed}, extra {total.extra})")


def main() -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "cross", "score"))
    parser.add_argument("data", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cases = load(args.data, beat_records())
    mitdb = [case for case in cases if case.name.startswith("mitdb")]
    svdb = [case for case in cases if case.name.startswith("svdb")]
    if args.what == "cross":
        # Noise for training and for the stress test comes from different halves of what is available.
        noises, stress = load_noises(args.data, slice(10, 20)), load_noises(args.data, slice(0, 10))["em"][0]
        from_svdb = ListeningDetector(train(svdb, noises))
        print_scores("mitdb DS1, trained on svdb", mitdb, from_svdb)
        print_stress(mitdb, stress, from_svdb)
        print_scores("svdb, trained on mitdb DS1", svdb, ListeningDetector(train(mitdb, noises)))
        return
    if args.what == "train":
        write_weights(train(cases, load_noises(args.data, slice(0, 20)), seed=1), WEIGHTS)
        return
    print_scores("mitdb DS1", mitdb, QrsDetector())
    print_scores("svdb", svdb, QrsDetector())
    print_stress(mitdb, load_noises(args.data, slice(0, 20))["em"][0], QrsDetector())


if __name__ == "__main__":
    main()
