"""A model pack: a folder that is refused unless every byte of it is what its manifest says."""

from __future__ import annotations

import hashlib
import io
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from models.manifest import MANIFEST_NAME, Manifest, PackError, Platt, Weights, WeightsName, read_manifest

if TYPE_CHECKING:
    from models.backends import Backend

__all__ = [
    "ModelPack",
    "PackError",
    "available_packs",
    "difference",
    "event_probabilities",
    "expected",
    "forecast_changes",
    "golden",
    "load",
    "probabilities",
    "shipped",
    "sigmoid",
    "verify",
]

Float32 = npt.NDArray[np.float32]

PACKS = Path(__file__).parent / "packs"
MAX_FILE_BYTES = 64 << 20
FORECAST_SCALE_MG_DL = 100.0
"""A forecast that is off by this much counts in a golden run like a probability that is off by one."""
_UNREADABLE = (
    *(KeyError, ValueError, TypeError, SyntaxError, OSError, EOFError),
    *(RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)
"""What numpy and zipfile raise over a golden file that is none, or that somebody has thought up."""
QUANTIZED: WeightsName = "onnx"
"""The weights that every pack has, and that run where nothing else is chosen."""


@dataclass(frozen=True, slots=True)
class ModelPack:
    """A checked pack. `weights` are the bytes that were hashed: what is on disk may change, they do not."""

    path: Path
    manifest: Manifest
    weights: Mapping[WeightsName, bytes]
    golden: bytes

    @property
    def hash(self) -> str:
        """sha256 of the quantized network: the pack's identity in alerts, whichever runtime runs it."""
        return self.manifest.weights[QUANTIZED].sha256

    @property
    def id(self) -> str:
        return self.manifest.id

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in the order of the logits."""
        return tuple(self.manifest.output.labels)

    @property
    def context(self) -> tuple[str, ...]:
        """Names of the context features, in the order of the `context` input."""
        return tuple(self.manifest.input.context)

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one row of each input of the network."""
        wanted = self.manifest.input
        signal: dict[str, tuple[int, ...]] = {"signal": (wanted.channels, wanted.samples)}
        return {**signal, "context": (len(wanted.context),)} if wanted.context else signal

    @property
    def outputs(self) -> int:
        """Numbers a row: a logit for each label or step, behind three of a forecast for each horizon."""
        forecast = self.manifest.output.forecast
        return (self.manifest.output.steps or len(self.labels)) + (3 * len(forecast.minutes) if forecast else 0)

    def probabilities(self, outputs: Float32) -> Float32:
        """Calibrated probabilities, (batch, labels or steps) float32, of the backend's outputs (batch, outputs)."""
        output = self.manifest.output
        if output.forecast is not None:
            return event_probabilities(outputs, [output.platt[label] for label in self.labels])
        return sigmoid(outputs, output.temperature) if output.steps else probabilities(outputs, output.temperature)

    def changes(self, outputs: Float32) -> Float32:
        """Of a forecast, the expected change in mg/dL from the backend's outputs (batch, outputs).

        (batch, horizons, 3) float32: the lower end of the interval, the mean, the upper end, in rising order.
        """
        forecast = self.manifest.output.forecast
        if forecast is None:
            raise ValueError(f"{self.id} forecasts nothing")
        return forecast_changes(outputs, forecast.unit_mg_dl, forecast.widen_mg_dl)

    def unsure(self, probabilities: Float32) -> npt.NDArray[np.bool_]:
        """Which rows (batch, labels) of calibrated probabilities leave more or less than one answer open: (batch,)."""
        conformal = self.manifest.output.conformal
        if conformal is None:
            return np.zeros(len(probabilities), dtype=np.bool_)
        at_least = np.array([conformal.at_least[label] for label in self.labels], dtype=np.float32)
        unsure: npt.NDArray[np.bool_] = (probabilities >= at_least).sum(axis=1) != 1
        return unsure


def event_probabilities(outputs: Float32, platt: Sequence[Platt]) -> Float32:
    """(batch, events) float32 from the logits at the end of a forecast's outputs, each calibrated by its own."""
    scale, bias = np.array([(one.scale, one.bias) for one in platt], dtype=np.float64).T
    return sigmoid(outputs[:, -len(platt) :] * scale + bias, 1.0)


def forecast_changes(outputs: Float32, unit_mg_dl: float, widen_mg_dl: Sequence[float]) -> Float32:
    """(batch, horizons, 3) float32 in mg/dL from the front of a forecast's outputs: see `ModelPack.changes`."""
    n = len(widen_mg_dl)
    said = outputs[:, : 3 * n].reshape(len(outputs), n, 3).astype(np.float64) * unit_mg_dl
    said += np.outer(widen_mg_dl, (-1.0, 0.0, 1.0))
    # A quantized network may put the ends of a narrow interval a step on the wrong side of the mean.
    said[:, :, 0] = np.minimum(said[:, :, 0], said[:, :, 1])
    said[:, :, 2] = np.maximum(said[:, :, 2], said[:, :, 1])
    changes: Float32 = said.astype(np.float32)
    return changes


def probabilities(logits: Float32, temperature: float) -> Float32:
    """Softmax of logits / temperature, (batch, labels) float32; each row depends on its own logits only."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    exponentials = np.exp(scaled)
    shares: Float32 = (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares


def sigmoid(logits: Float32, temperature: float) -> Float32:
    """1 / (1 + exp(-logits / temperature)), elementwise, float32."""
    shares: Float32 = (1.0 / (1.0 + np.exp(-logits.astype(np.float64) / temperature))).astype(np.float32)
    return shares


def available_packs() -> list[Path]:
    """Folders of the packs shipped with vagus, by name."""
    return sorted(path.parent for path in PACKS.glob(f"*/{MANIFEST_NAME}"))


def shipped(pack_id: str) -> Path:
    """Folder of the shipped pack called `pack_id`; raises PackError when there is none."""
    path = PACKS / pack_id
    if path not in available_packs():
        known = ", ".join(p.name for p in available_packs()) or "none"
        raise PackError(path, f"no pack is shipped under this id (there are: {known})")
    return path


def load(path: Path) -> ModelPack:
    """The pack in folder `path`.

    Raises PackError, naming the file, when a file is missing, truncated, too large or not the one whose sha256 the
    manifest holds, and when the folder's name is not the pack's id.
    """
    if not path.is_dir():
        raise PackError(path, "no such folder")
    manifest = read_manifest(path / MANIFEST_NAME)
    if manifest.id != path.resolve().name:
        raise PackError(path / MANIFEST_NAME, f"id: {manifest.id!r} is not the name of its folder")
    if QUANTIZED not in manifest.weights:
        raise PackError(path / MANIFEST_NAME, f"weights: none for runtime {QUANTIZED!r}")
    checked = {runtime: _read_checked(path, weights) for runtime, weights in manifest.weights.items()}
    golden = _read_bytes(path / manifest.golden.file)
    _check_hash(path / manifest.golden.file, golden, manifest.golden.sha256)
    return ModelPack(path, manifest, checked, golden)


def verify(pack: ModelPack, backend: Backend | None = None) -> float:
    """Run the golden vectors and return the largest difference from what the pack promises, as its tolerance counts.

    Opens the CPU backend where none is given. Raises PackError when the difference is above the manifest's tolerance,
    when the golden file does not fit the manifest, or when the network cannot run.
    """
    from models.backends import open_backend  # noqa: PLC0415  (a backend imports its runtime, which takes its time)

    inputs, wanted = golden(pack)
    logits = (backend or open_backend(pack)).run(inputs)
    if logits.shape != wanted.shape or not np.isfinite(logits).all():
        raise PackError(pack.path, f"{pack.id}: golden run gave {logits.shape} or non-finite logits")
    found = difference(pack, logits, wanted)
    if found > pack.manifest.golden.tolerance:
        raise PackError(
            pack.path / pack.manifest.golden.file,
            f"golden vectors differ by {found:.4f}, allowed {pack.manifest.golden.tolerance:g}",
        )
    return found


def difference(pack: ModelPack, outputs: Float32, wanted: Float32) -> float:
    """The largest difference of a probability, and of a forecast in units of FORECAST_SCALE_MG_DL."""
    farthest = float(np.abs(pack.probabilities(outputs) - pack.probabilities(wanted)).max())
    if pack.manifest.output.forecast is None:
        return farthest
    moved = float(np.abs(pack.changes(outputs) - pack.changes(wanted)).max())
    return max(farthest, moved / FORECAST_SCALE_MG_DL)


def golden(pack: ModelPack) -> tuple[dict[str, Float32], Float32]:
    """Inputs of the golden file, and the logits that the quantized network must give; raises PackError."""
    path = pack.path / pack.manifest.golden.file
    try:
        with zipfile.ZipFile(io.BytesIO(pack.golden)) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MAX_FILE_BYTES:
            raise PackError(path, f"unpacks to {unpacked} bytes, at most {MAX_FILE_BYTES} are read")
        with np.load(io.BytesIO(pack.golden), allow_pickle=False) as arrays:
            inputs = {name: arrays[name].astype(np.float32) for name in pack.input_shapes}
            logits = arrays["logits"].astype(np.float32)
    except _UNREADABLE as error:
        raise PackError(
            path, f"is not a golden file with {', '.join(pack.input_shapes)} and logits: {error}"
        ) from error
    rows = len(logits)
    shapes = {**{name: (rows, *shape) for name, shape in pack.input_shapes.items()}, "logits": (rows, pack.outputs)}
    for name, array in {**inputs, "logits": logits}.items():
        if rows == 0 or array.shape != shapes[name]:
            raise PackError(path, f"{name} has shape {array.shape}, expected {shapes[name]}")
    return inputs, logits


def expected(pack: ModelPack, weights: WeightsName) -> Float32:
    """Logits that one of the pack's files gave on the golden inputs where it was made; else those of the quantized."""
    _, logits = golden(pack)
    with np.load(io.BytesIO(pack.golden), allow_pickle=False) as arrays:
        own = arrays.get(f"logits.{weights}")
    return logits if own is None else own.astype(np.float32)


def _read_checked(folder: Path, weights: Weights) -> bytes:
    content = _read_bytes(folder / weights.file)
    _check_hash(folder / weights.file, content, weights.sha256)
    return content


def _read_bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise PackError(path, f"is {size} bytes, at most {MAX_FILE_BYTES} are read")
        return path.read_bytes()
    except FileNotFoundError:
        raise PackError(path, "missing") from None
    except OSError as error:
        raise PackError(path, f"cannot be read: {error.strerror}") from error


def _check_hash(path: Path, content: bytes, expected: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise PackError(path, f"has sha256 {found[:12]}…, the manifest says {expected[:12]}…: truncated or changed")
