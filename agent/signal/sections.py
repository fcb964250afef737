"""Second-order sections: the few that are wanted here, their state at rest, and scipy's compiled loop that runs them.

`scipy.signal` draws in statistics, optimisation and spatial parts: 75 MB and half a second for one small loop. So
only that loop is loaded, from its own file; where it is not there, or is not what it was, it comes from the package.
Each design repeats scipy's arithmetic step by step, for its very bits: tests compare the two.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt

Signal = npt.NDArray[np.float64]
Loop = Callable[[Signal, Signal, Signal], None]
"""Filters x (rows, n) in place by sections (sections, 6), with the delay elements (rows, sections, 2), in place too."""

_LOOP = "scipy.signal._sosfilt"


def sosfilt(sections: Signal, x: Signal, memory: Signal) -> tuple[Signal, Signal]:
    """`x` (rows, n) through `sections` (sections, 6), and what the delay elements `memory` (rows, sections, 2) became.

    Both results are new arrays; a row's bits do not depend on its company. Raises ValueError where shapes disagree.
    """
    if x.ndim != 2 or sections.shape[1:] != (6,) or memory.shape != (len(x), len(sections), 2):
        raise ValueError(f"samples {x.shape}, sections {sections.shape} and memory {memory.shape} do not go together")
    y, after = np.array(x, np.float64, order="C"), np.array(memory, np.float64, order="C")
    _loop()(sections, y, after)
    return y, after


def first_order_high_pass(edge_hz: float, rate_hz: float) -> Signal:
    """Butterworth, (1, 6)."""
    poles, gain = _bilinear(_warped(edge_hz, rate_hz) / _poles(1), np.zeros(1))
    section = np.array([[1.0, -1.0, 0.0, 1.0, -poles[0].real, 0.0]])
    section[:, :3] *= gain
    return section


def second_order_low_pass(edge_hz: float, rate_hz: float) -> Signal:
    """Butterworth, (1, 6)."""
    warped = _warped(edge_hz, rate_hz)
    poles, gain = _bilinear(warped * _poles(2), np.empty(0), warped**2)
    pole = (poles[0] + poles[1].conj()) / 2
    section = np.array([[1.0, 2.0, 1.0, 1.0, -2 * pole.real, (pole * pole.conj()).real]])
    section[:, :3] *= gain
    return section


def at_rest(sections: Signal) -> Signal:
    """(sections, 2): delay elements after a long stretch of ones."""
    rest = np.empty((len(sections), 2))
    scale = 1.0
    for row, section in enumerate(sections):
        b, a = section[:3], section[3:]
        system = np.array([[1 + a[1], -1.0], [a[2], 1.0]])
        rest[row] = scale * np.linalg.solve(system, b[1:] - a[1:] * b[0])
        scale *= b.sum() / a.sum()
    return rest


def _warped(edge_hz: float, rate_hz: float) -> float:
    """The edge where the bilinear transform puts it, at two samples a second."""
    return float(4.0 * np.tan(np.pi * (edge_hz / (rate_hz / 2)) / 2.0))


def _poles(order: int) -> npt.NDArray[np.complex128]:
    poles: npt.NDArray[np.complex128] = -np.exp(1j * np.pi * np.arange(-order + 1, order, 2) / (2 * order))
    return poles


def _bilinear(
    poles: npt.NDArray[np.complex128], zeros: Signal, gain: float = 1.0
) -> tuple[npt.NDArray[np.complex128], float]:
    """Digital poles and gain of an analog filter, at two samples a second."""
    return (4.0 + poles) / (4.0 - poles), float(gain * np.real(np.prod(4.0 - zeros) / np.prod(4.0 - poles)))


@cache
def _loop() -> Loop:
    """The compiled loop: by itself if that can be, else from `scipy.signal`."""
    try:
        module = sys.modules.get(_LOOP) or _loaded_alone()
        loop: Loop = module._sosfilt
        if _filters(loop):
            return loop
    except (AttributeError, ImportError, TypeError, ValueError):
        pass
    return _from_the_package


def _loaded_alone() -> ModuleType:
    scipy = find_spec("scipy")
    folder = Path(scipy.origin or "").parent / "signal" if scipy else Path()
    name = _LOOP.rpartition(".")[2]
    path = next((path for suffix in EXTENSION_SUFFIXES if (path := folder / f"{name}{suffix}").exists()), None)
    spec = spec_from_file_location(_LOOP, path) if path else None
    if spec is None or spec.loader is None:
        raise ImportError(_LOOP)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _filters(loop: Loop) -> bool:
    """Whether it takes what is given here and does with it what it should, tried on a small signal."""
    section, x, memory = np.array([[0.5, 0.25, 0.125, 1.0, -0.5, 0.25]]), np.array([[1.0, 0.0]]), np.zeros((1, 1, 2))
    loop(section, x, memory)
    return x.tolist() == [[0.5, 0.5]] and memory.tolist() == [[[0.25, -0.125]]]


def _from_the_package(sections: Signal, x: Signal, memory: Signal) -> None:
    from scipy.signal import sosfilt as public  # noqa: PLC0415 (75 MB)

    x[:], after = public(sections, x, axis=1, zi=memory.transpose(1, 0, 2))
    memory[:] = after.transpose(1, 0, 2)
