"""CARD.md: what a pack is, how well it does on people it had not met, and what it must not be used for.

The frame is the same for every pack; a pack brings its protocol, tables, plots, network and limits.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from models.manifest import Source, WeightsName

PHYSIONET = (
    "All are from PhysioNet: Goldberger AL, Amaral LAN, Glass L, et al. PhysioBank, PhysioToolkit, and PhysioNet: "
    "Components of a new research resource for complex physiologic signals. Circulation 101(23):e215-e220, 2000."
)
LAST_LIMIT = "Suggestive of an arrhythmia is all that an answer is. No treatment may rest on it."
FILES: dict[WeightsName, str] = {
    "onnx": "8-bit ONNX (runs on the CPU)",
    "onnx-s8": "symmetric 8-bit ONNX",
    "tflite": "full-integer TFLite",
}


@dataclass(frozen=True, slots=True)
class Table:
    """Scores in rows, with what must be said of them."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    before: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """All that a card says. Paragraphs are wrapped; each of `network` and `limits` becomes a point of a list."""

    title: str
    version: str
    intended_use: str
    protocol: Sequence[str]
    """Who was held out and how, what was scored, what was chosen on the held-out answers: in paragraphs."""
    tables: Sequence[Table]
    network: Sequence[str]
    sources: Sequence[Source]
    limits: Sequence[str]
    plots: Mapping[str, str] = field(default_factory=dict)
    """File in the pack: what it shows."""
    origin: str = PHYSIONET
    """What must be said of where the sources come from."""
    last_limit: str = LAST_LIMIT


def text(card: Card) -> str:
    """The text of CARD.md."""
    return "\n".join(_lines(card)).rstrip("\n") + "\n"


def agreement_table(shares: Mapping[WeightsName, float], rows: int, what: str) -> Table:
    """What models.training.export.agreement said of `rows` `what`."""
    return Table(
        ("file", "same answer as the float network"),
        [(FILES[name], f"{100 * share:.2f} %") for name, share in shares.items()],
        before=f"The network in its files, on {rows} {what}:",
    )


def confusion_table(labels: Sequence[str], counts: Sequence[Sequence[int]], before: str) -> Table:
    """Rows are the reference, columns the answer."""
    return Table(
        ("", *labels),
        [(label, *map(str, row)) for label, row in zip(labels, counts, strict=True)],
        before=before,
    )


def _lines(card: Card) -> Iterator[str]:
    yield from (f"# {card.title}", "")
    yield from (f"Version {card.version}. **Not a medical device.** {card.intended_use}", "")
    yield from ("## Scores", "")
    for paragraph in card.protocol:
        yield from (*_wrap(paragraph), "")
    for table in card.tables:
        yield from _table(table)
    for file, caption in card.plots.items():
        yield from (f"![{caption}]({file})", "")
    yield from ("## Network", "", *_points(card.network), "")
    yield from (
        "## Training data",
        "",
        *_points([_source(source) for source in card.sources]),
        "",
        *_wrap(card.origin),
        "",
    )
    yield from ("## Limits", "", *_points([*card.limits, card.last_limit]))


def _table(table: Table) -> Iterator[str]:
    if table.before:
        yield from (*_wrap(table.before), "")
    yield "| " + " | ".join(table.header) + " |"
    yield "|---" * len(table.header) + "|"
    yield from ("| " + " | ".join(row) + " |" for row in table.rows)
    yield ""
    if table.after:
        yield from (*_wrap(table.after), "")


def _source(source: Source) -> str:
    shown = " ".join(source.records) if len(source.records) < 100 else f"{len(source.records)} records"
    return f"**{source.title}**, {source.licence}. {source.attribution} Records: {shown}."


def _points(points: Sequence[str]) -> list[str]:
    return [line for point in points for line in _wrap(point, "- ")]


def _wrap(paragraph: str, mark: str = "") -> list[str]:
    return textwrap.wrap(mark + paragraph, 118, subsequent_indent=" " * len(mark), break_on_hyphens=False)
