"""vagus_frame.h does byte for byte what the Python codec does: VAGUS_FRAMES random and damaged frames say so."""

from __future__ import annotations

import os
import random
import re
import shutil
import struct
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from cobs import cobs

from firmware_bridge.chunk import DecodeError
from firmware_bridge.frame import OVERHEAD, UNIT_CODES, Frame, FrameFlag, SampleFormat
from firmware_bridge.resend import ResendRequest
from firmware_bridge.serial_line import MAX_FRAME_BYTES, LineReader, to_line

FRAMES = int(os.environ.get("VAGUS_FRAMES", "4000"))
BATCH = 20_000
HERE = Path(__file__).parent
C_DIR = HERE.parents[1] / "firmware_bridge" / "c"
HEADER = C_DIR / "vagus_frame.h"
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror", f"-I{C_DIR}"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
FIELDS = struct.Struct("<QIIIfHBBBBB")
RESEND_FIELDS = struct.Struct("<IHHB")
STATUS = {
    name: number
    for number, name in enumerate(
        re.findall(
            r"^    VAGUS_(\w+)", HEADER.read_text("utf-8").partition("typedef enum {")[2].partition("}")[0], re.M
        )
    )
}
FIELD_AT = {0: "VERSION", 2: "FLAGS", 3: "FORMAT", 4: "CHANNELS", 5: "UNIT", 20: "RATE", 24: "SCALE", 28: "COUNT"}

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")


def compiled(tmp_path: Path, source: Path, *arguments: str) -> Path:
    program = tmp_path / source.stem
    subprocess.run(["gcc", "-std=c99", "-O2", *WARNINGS, *arguments, "-o", program, source], check=True)
    return program


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("c"), HERE / "frame_driver.c", *SANITIZERS)


def told(driver: Path, asked: list[tuple[str, bytes]]) -> list[bytes]:
    """What the C program answers to each (operation, data)."""
    said = b"".join(operation.encode() + struct.pack("<I", len(data)) + data for operation, data in asked)
    answered = subprocess.run([driver], input=said, capture_output=True, check=True).stdout
    answers, at = [], 0
    while at < len(answered):
        (size,) = struct.unpack_from("<I", answered, at)
        answers.append(answered[at + 4 : at + 4 + size])
        at += 4 + size
    assert len(answers) == len(asked)
    return answers


def status(name: str) -> bytes:
    return bytes([STATUS[name]])


def some_frame(rng: random.Random) -> Frame:
    sample_format, channels = rng.choice(list(SampleFormat)), rng.choice([1, 1, 1, 2, 3, 16])
    count = rng.choice([1, 2, 7, rng.randrange(1, 30), rng.randrange(1, 200)])
    size = sample_format.width * channels * count
    return Frame(
        stream_id=rng.randrange(256),
        flags=FrameFlag(rng.randrange(2)),
        sample_format=sample_format,
        channels=channels,
        unit=rng.choice(UNIT_CODES),
        boot_id=rng.randrange(1 << 16),
        time_us=rng.getrandbits(rng.choice([0, 8, 33, 50, 64])),
        sequence=rng.getrandbits(rng.choice([0, 8, 32])),
        rate_mhz=rng.choice([0, 1, 250_000, 4_000_000, rng.randrange(4_000_001)]),
        scale=rng.choice([1.0, 0.005, 1e-29, 9e29, rng.uniform(1e-6, 1e6)]),
        samples=rng.choice([rng.randbytes(size), bytes(size), b"\xff" * size]),
    )


def signed(data: bytes) -> bytes:
    return data[:-4] + struct.pack("<I", zlib.crc32(data[:-4]))


def flipped(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def header_edited(data: bytes, rng: random.Random) -> bytes:
    at, values = rng.choice([(2, 1), (3, 1), (4, 1), (5, 1), (20, 4), (24, 4), (28, 4), (rng.randrange(32), 1)])
    new = rng.choice([rng.randbytes(values), bytes(values), rng.randrange(20).to_bytes(values, "little")])
    return signed(data[:at] + new + data[at + values :])


def scale_at_its_bounds(data: bytes, rng: random.Random) -> bytes:
    bits = rng.choice([0x0DA24260, 0x7149F2C9, 0x7F800000, 0x7FA00000, 0x80000000, 0xBF800000]) + rng.randrange(-1, 2)
    return signed(data[:24] + struct.pack("<I", bits) + data[28:])


def other_channels(data: bytes, rng: random.Random) -> bytes:
    channels, width = rng.choice([0, 16, 17, 255]), data[3] + 1
    samples = rng.randbytes(channels * width)
    return signed(data[:4] + bytes([channels]) + data[5:28] + struct.pack("<I", 1) + samples + bytes(4))


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "whole": lambda data, _: data,
    "flipped": flipped,
    "flipped and signed": lambda data, rng: signed(flipped(data, rng)),
    "edited": header_edited,
    "edited twice": lambda data, rng: header_edited(header_edited(data, rng), rng),
    "scale": scale_at_its_bounds,
    "channels": other_channels,
    "cut": lambda data, rng: data[: rng.randrange(len(data))],
    "cut and signed": lambda data, rng: signed(data[: rng.randrange(4, len(data))]),
    "longer": lambda data, rng: data + rng.randbytes(rng.randrange(1, 9)),
    "longer and signed": lambda data, rng: signed(data + rng.randbytes(rng.randrange(1, 9))),
    "noise": lambda data, rng: rng.randbytes(len(data)),
    "noise of ours": lambda data, rng: signed(b"\1" + rng.randbytes(len(data) - 1)),
}


def refusal(error: DecodeError, data: bytes) -> bytes:
    """The C status for a frame that Python refuses: the field at fault is the same."""
    if len(data) < OVERHEAD:
        return status("SIZE")
    assert error.offset is not None
    return status("CRC" if error.offset == len(data) - 4 else FIELD_AT[error.offset])


def decoded(data: bytes) -> bytes:
    """What C must answer to a frame: its fields, its numbers, and the frame again; or why not."""
    try:
        frame = Frame.from_bytes(data)
    except DecodeError as error:
        return refusal(error, data)
    numbers = b"" if frame.sample_format is SampleFormat.FLOAT32 else frame.counts().astype("<i4").tobytes()
    return status("OK") + fields(frame) + numbers + bytes(frame)


def fields(frame: Frame) -> bytes:
    return FIELDS.pack(
        frame.time_us, frame.sequence, frame.rate_mhz, frame.count, frame.scale, frame.boot_id, frame.stream_id,
        frame.flags, frame.sample_format, frame.channels, UNIT_CODES.index(frame.unit),
    )  # fmt: skip


def cases(rng: random.Random, count: int) -> Iterator[tuple[str, bytes, bytes, str]]:
    """(operation, data, what must be answered, what was done to the frame), `count` frames and what goes with them."""
    for _ in range(count):
        frame = some_frame(rng)
        whole = bytes(frame)
        damage = rng.choice(list(DAMAGES))
        data = DAMAGES[damage](whole, rng)
        yield "F", data, decoded(data), damage
        line: bytes = cobs.encode(data)
        if rng.random() < 0.25:
            yield "E", fields(frame) + frame.samples, status("OK") + whole, "encoded"
            yield "S", data, status("OK") + line + b"\0", "stuffed"
            stuffed = line if rng.random() < 0.5 else flipped(line, rng)
            yield "U", stuffed, unstuffed(stuffed), "unstuffed"


def unstuffed(data: bytes) -> bytes:
    try:
        plain: bytes = cobs.decode(data)
    except cobs.DecodeError:
        return status("COBS")
    return status("OK") + plain


def test_random_and_damaged_frames_are_read_written_and_refused_alike(driver: Path) -> None:
    rng, seen, refused = random.Random(20261130), Counter[str](), Counter[int]()
    for begin in range(0, FRAMES, BATCH):
        batch = list(cases(rng, min(BATCH, FRAMES - begin)))
        answers = told(driver, [(operation, data) for operation, data, _, _ in batch])
        for (operation, data, expected, what), answer in zip(batch, answers, strict=True):
            assert answer == expected, f"{operation} {what}: {data.hex()}"
            seen[what] += 1
            if operation == "F":
                refused[answer[0]] += 1
    assert set(seen) == {*DAMAGES, "encoded", "stuffed", "unstuffed"}
    reasons = ("OK", "SIZE", "VERSION", "CRC", "FLAGS", "FORMAT", "CHANNELS", "UNIT", "RATE", "SCALE", "COUNT")
    assert set(refused) == {STATUS[name] for name in reasons}
    sys.stdout.write(f"{refused.total()} frames: {', '.join(f'{name} {refused[STATUS[name]]}' for name in reasons)}\n")


def test_fields_out_of_range_are_not_encoded(driver: Path) -> None:
    rng, asked, expected = random.Random(7), [], []
    for _ in range(2000):
        good = some_frame(rng)
        packed = bytearray(fields(good))
        at = rng.choice([12, 16, 20, 27, 28, 29, 30])
        packed[at : at + (4 if at < 24 else 1)] = rng.randbytes(4 if at < 24 else 1)
        asked.append(("E", bytes(packed) + good.samples))
        time, sequence, rate, count, _, boot, stream, flags, code, channels, unit = FIELDS.unpack(packed)
        body = struct.pack(
            "<BBBBBBHQII4sI", 1, stream, flags, code, channels, unit, boot, time, sequence, rate, packed[20:24], count
        )  # fmt: skip
        data = signed(body + good.samples + bytes(4))
        try:
            expected.append(bytes(Frame.from_bytes(data)))
        except DecodeError:
            expected.append(b"")
    consistent = [
        (answer, wanted)
        for (_, data), answer, wanted in zip(asked, told(driver, asked), expected, strict=True)
        if wanted or answer[0] != STATUS["OK"]
    ]
    assert all(answer[1:] == wanted for answer, wanted in consistent)
    assert len(consistent) > 1500


def test_resend_requests_are_read_and_written_alike(driver: Path) -> None:
    rng, asked, expected = random.Random(9), [], []
    for _ in range(4000):
        first = rng.choice([0, 64, rng.getrandbits(32), 0xFFFFFFFF - rng.randrange(300)])
        stream, boot, count = rng.randrange(256), rng.randrange(1 << 16), rng.choice([1, 256, rng.randrange(400)])
        packed = RESEND_FIELDS.pack(first, boot, count, stream)
        data = struct.pack("<BBHIHH", 0x52, stream, boot, first, count, rng.choice([0, 0, 0, 1])) + bytes(4)
        data = rng.choice([signed(data), signed(data), data, signed(data)[:-1], signed(b"\1" + data[1:])])
        asked += [("R", data), ("Q", packed)]
        try:
            request = ResendRequest.from_bytes(data)
            expected.append(status("OK") + packed)
            assert request == ResendRequest(stream, boot, first, count)
        except DecodeError as error:
            named = {0: "VERSION", 8: "COUNT", 10: "RESERVED", 12: "CRC"}
            expected.append(status("SIZE" if len(data) != 16 else named[error.offset or 0]))
        try:
            expected.append(status("OK") + bytes(ResendRequest(stream, boot, first, count)))
        except DecodeError:
            expected.append(status("COUNT"))
    assert told(driver, asked) == expected


def test_a_serial_line_is_read_alike_however_it_is_torn(driver: Path) -> None:
    rng, wire = random.Random(3), bytearray()
    for _ in range(600):
        line = to_line(some_frame(rng))
        wire += rng.choice(
            [line, line, flipped(line, rng), line[: rng.randrange(len(line))], rng.randbytes(40), b"\0\0"]
        )
    for size in (MAX_FRAME_BYTES - 1, MAX_FRAME_BYTES, MAX_FRAME_BYTES + 1, 3 * MAX_FRAME_BYTES):
        wire += b"\0" + b"\x02" * size + b"\0" + to_line(some_frame(rng))
    cuts = sorted({0, len(wire), *(rng.randrange(len(wire)) for _ in range(500))})
    pieces = [bytes(wire[a:b]) for a, b in pairwise(cuts)]
    reader, here, there = LineReader(), list[Frame | str](), list[Frame | str]()
    for piece in pieces:
        here += [said if isinstance(said, Frame) else str(said)[:8] for said in reader.push(piece)]
    for answer in told(driver, [("L", piece) for piece in pieces]):
        at = 1
        while at < len(answer):
            (size,) = struct.unpack_from("<I", answer, at + 1)
            there.append(_line(answer[at], answer[at + 5 : at + 5 + size]))
            at += 5 + size
    assert there == here
    assert sum(isinstance(said, Frame) for said in here) > 100
    assert here.count("no delim") == 2


def _line(code: int, data: bytes) -> Frame | str:
    if code != STATUS["OK"]:
        return {STATUS["COBS"]: "not COBS", STATUS["OVERRUN"]: "no delim"}[code]
    try:
        return Frame.from_bytes(data)
    except DecodeError as error:
        return str(error)[:8]


@pytest.mark.parametrize(
    "compiler", ["gcc -std=c99 -xc", "gcc -std=c17 -xc", "g++ -std=c++11 -xc++", "g++ -std=c++20 -xc++"]
)
def test_it_compiles_without_a_warning(compiler: str) -> None:
    program, *arguments = compiler.split()
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}")
    subprocess.run([program, *arguments, "-O2", *WARNINGS, "-fsyntax-only", HERE / "frame_driver.c"], check=True)


def test_the_example_of_its_readme_sends_frames_and_sends_them_again(tmp_path: Path) -> None:
    (example,) = re.findall(r"```c\n(.*?)```", (C_DIR / "README.md").read_text("utf-8"), re.DOTALL)
    main = """
#include <stdio.h>
uint16_t boot_id = 0x1234;
void uart_write(const uint8_t *data, size_t size) { fwrite(data, 1, size, stdout); }
int main(void) {
    int16_t adc[SAMPLES];
    uint32_t n, k;
    int byte;
    for (n = 0; n < 8; n++) {
        for (k = 0; k < SAMPLES; k++) adc[k] = (int16_t)(n * 100 - k);
        send_ecg(adc, (uint64_t)n * 400000u);
    }
    while ((byte = getchar()) != EOF) on_byte((uint8_t)byte);
    return 0;
}
"""
    (tmp_path / "strap.c").write_text(f"{example}\nvoid send_ecg(const int16_t *, uint64_t);\n{main}")
    program = compiled(tmp_path, tmp_path / "strap.c", *SANITIZERS)
    asked = [ResendRequest(3, 0x1234, 2, 3), ResendRequest(3, 0x9999, 4, 1), ResendRequest(3, 0x1234, 7, 200)]
    lines = b"noise\0" * 20 + b"".join(cobs.encode(bytes(request)) + b"\0" for request in asked)
    said = LineReader().push(subprocess.run([program], input=lines, capture_output=True, check=True).stdout)
    frames = [frame for frame in said if isinstance(frame, Frame)]
    assert [frame.sequence for frame in frames] == [0, 1, 2, 3, 4, 5, 6, 7, 3, 4, 7]
    assert frames[8] == frames[3]
    assert frames[3].counts()[:3, 0].tolist() == [300, 299, 298]
    assert (frames[3].time_us, frames[3].unit, frames[3].boot_id, frames[3].flags) == (1_200_000, "mV", 0x1234, 0)
