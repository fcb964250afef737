"""WFDB recordings and annotations, read and written with numpy alone.

The formats are those of the WFDB Applications Guide (https://physionet.org/physiotools/wag/): header(5), signal(5),
annot(5). Read are headers of one segment whose signals share one sampling rate, and signal formats 212, 16, 61, 160,
80, 24, 32, 310 and 311, in any number of files and at any byte offset (a Challenge `.mat` is format 16 at offset 24).
"""

from agent.ingest.wfdb.annotations import SYMBOLS, Annotations, read_annotations, write_annotations
from agent.ingest.wfdb.header import Header, RecordError, SignalHeader, read_header
from agent.ingest.wfdb.signals import Record, iter_blocks, read_digital, read_record, read_samples

__all__ = [
    "SYMBOLS",
    "Annotations",
    "Header",
    "Record",
    "RecordError",
    "SignalHeader",
    "iter_blocks",
    "read_annotations",
    "read_digital",
    "read_header",
    "read_record",
    "read_samples",
    "write_annotations",
]
