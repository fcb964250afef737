"""A runtime that fails while it runs costs one batch's time, not the watching: the CPU goes on in its place."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from models.backends import CPU, Backend, open_runtime
from models.pack import ModelPack

log = logging.getLogger(__name__)

Float32 = npt.NDArray[np.float32]


class GuardedBackend:
    """A pack's network on `first`, and from its first failure on, for good, on the CPU.

    A failure is an exception, or logits of another shape or that are not finite. What cannot be guarded against in
    one process is a runtime that kills it or never returns.
    """

    def __init__(self, pack: ModelPack, first: Backend, failed: Callable[[str], None]) -> None:
        """`failed` is told the reason, once, after the CPU has taken over."""
        self._pack, self._now, self._failed = pack, first, failed
        self._on_cpu = first.name == CPU.name

    @property
    def name(self) -> str:
        return self._now.name

    def run(self, inputs: dict[str, Float32]) -> Float32:
        """See Backend.run."""
        if self._on_cpu:
            return self._now.run(inputs)
        try:
            logits = self._now.run(inputs)
        except Exception as error:  # a driver's errors have no class in common
            return self._take_over(inputs, f"{type(error).__name__}: {error}")
        rows = len(next(iter(inputs.values())))
        if logits.shape != (rows, self._pack.outputs) or not np.isfinite(logits).all():
            return self._take_over(inputs, f"gave {logits.shape} or non-finite logits")
        return logits

    def _take_over(self, inputs: dict[str, Float32], reason: str) -> Float32:
        cpu = open_runtime(self._pack, CPU)
        logits = cpu.run(inputs)  # where the inputs are at fault, the CPU says so too, and nothing has failed
        log.error("%s failed on model %s, the CPU goes on: %s", self.name, self._pack.id, reason)
        self._now, self._on_cpu = cpu, True
        self._failed(reason)
        return logits
