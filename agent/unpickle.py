"""Read a state that was pickled by this agent, and nothing else: no name in it leads to code that does anything.

What is kept of a person is their state and nothing but: classes of the stages, which do no I/O, arrays and containers.
A state folder that somebody has tampered with, or a backup that somebody made up, can so be wrong, but not a program.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

_STAGES = ("agent.alarms.", "agent.signal.")
_MODULES = frozenset(
    {
        *("agent.patient", "agent.leads", "agent.pulses", "agent.glucose_state", "agent.stream_state"),
        *("agent.history.ecg", "firmware_bridge.chunk"),
    }
)
_OTHERS = frozenset(
    {
        *(("builtins", name) for name in ("list", "dict", "set", "frozenset", "int", "float", "complex", "slice")),
        *(("collections", name) for name in ("Counter", "OrderedDict", "defaultdict", "deque")),
        *(("array", name) for name in ("array", "_array_reconstructor")),
        *(("numpy", name) for name in ("dtype", "ndarray")),
        *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    }
)


def unpickle(blob: bytes) -> Any:
    """The value in `blob`; raises pickle.UnpicklingError over a name that no state has, else whatever pickle raises."""
    return _StateOnly(io.BytesIO(blob)).load()


class _StateOnly(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        """A class of ours that was made where it says, or one of the few others."""
        if (module_name, global_name) in _OTHERS:
            return super().find_class(module_name, global_name)
        if (module_name.startswith(_STAGES) or module_name in _MODULES) and "." not in global_name:
            found = super().find_class(module_name, global_name)
            if isinstance(found, type) and found.__module__ == module_name:
                return found
        raise pickle.UnpicklingError(f"{module_name}.{global_name} is no part of a state")
