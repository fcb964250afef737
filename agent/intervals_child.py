"""A process of its own that finds where the waves of beats begin and end: `python -m agent.intervals_child`.

One JSON object in, one out. neurokit2 and what it needs is heavy, and whatever goes wrong in there stays in there.
"""

from __future__ import annotations

import json
import math
import os
import sys
import warnings

WAVES = {"p_onset": "ECG_P_Onsets", "r_onset": "ECG_R_Onsets", "r_offset": "ECG_R_Offsets", "t_offset": "ECG_T_Offsets"}
"""What is told of each beat, and what neurokit2 calls it."""


def main() -> int:
    """Reads {"samples", "rate_hz", "r_peaks"}; writes for each of WAVES a sample index, or null, for each R peak."""
    os.nice(10)
    warnings.simplefilter("ignore")
    import neurokit2  # noqa: PLC0415 (it takes seconds)
    import numpy as np  # noqa: PLC0415

    asked = json.load(sys.stdin)
    peaks = np.array(asked["r_peaks"], np.int64)
    clean = neurokit2.ecg_clean(np.array(asked["samples"], np.float64), sampling_rate=asked["rate_hz"])
    _, found = neurokit2.ecg_delineate(clean, peaks, sampling_rate=asked["rate_hz"], method="dwt")
    told = {name: [_number(x) for x in found.get(key, ())] for name, key in WAVES.items()}
    sys.stdout.write(json.dumps(told))
    return 0


def _number(x: float) -> float | None:
    return float(x) if math.isfinite(x) else None


if __name__ == "__main__":
    sys.exit(main())
