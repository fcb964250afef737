"""Other programs that find beats, as a program: `python -m agent.bench.peers NAME RECORD`.

Each is given the whole of the lead that vagus analyses; what it says goes out as JSON {"cpu_s", "beats"}, sample
indices. CPU time is that of finding, without starting up and reading. Exit 3 where the program is not installed.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

NOT_INSTALLED = 3
FIRST_S = 20.0


def neurokit(signal_mv: Any, rate_hz: float) -> Any:
    """neurokit2's own cleaning and detector."""
    import neurokit2  # noqa: PLC0415 (only where it is asked for)

    clean = neurokit2.ecg_clean(signal_mv, sampling_rate=rate_hz)
    return neurokit2.ecg_peaks(clean, sampling_rate=rate_hz)[1]["ECG_R_Peaks"]


def xqrs(signal_mv: Any, rate_hz: float) -> Any:
    """wfdb's XQRS, which learns from the record first."""
    from wfdb import processing  # noqa: PLC0415

    return processing.xqrs_detect(signal_mv, rate_hz, verbose=False)


def gqrs(signal_mv: Any, rate_hz: float) -> Any:
    """wfdb's port of GQRS."""
    from wfdb import processing  # noqa: PLC0415

    return processing.gqrs_detect(signal_mv, fs=rate_hz, adc_gain=200, adc_zero=0)


def sleepecg(signal_mv: Any, rate_hz: float) -> Any:
    """sleepecg's, in C."""
    from sleepecg import detect_heartbeats  # noqa: PLC0415

    return detect_heartbeats(signal_mv, rate_hz)


PEERS: dict[str, Callable[[Any, float], Any]] = {
    "neurokit2": neurokit,
    "wfdb xqrs": xqrs,
    "wfdb gqrs": gqrs,
    "sleepecg": sleepecg,
}


def main(arguments: list[str]) -> int:
    """See the top of the file."""
    name, record = arguments
    warnings.simplefilter("ignore")
    from agent.bench.against import one_lead  # noqa: PLC0415 (numpy)

    find = PEERS[name]
    signal, rate_hz = one_lead(Path(record))
    try:
        find(signal[: round(FIRST_S * rate_hz)], rate_hz)  # what it imports and compiles is not counted
    except ImportError as error:
        sys.stderr.write(f"{error}\n")
        return NOT_INSTALLED
    began_s = time.process_time()
    beats = find(signal, rate_hz)
    cpu_s = time.process_time() - began_s
    sys.stdout.write(json.dumps({"cpu_s": cpu_s, "beats": [int(one) for one in beats]}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
