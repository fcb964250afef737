"""What the person at the terminal sees while the demo plays: a moving picture, or plain lines where none can move."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from agent.demo.programme import Programme
from agent.demo.trace import trace
from agent.demo.truth import Heard
from firmware_bridge.chunk import NS_PER_S, Chunk

STYLE = {"high": "bold white on red", "medium": "bold black on yellow", "low": "bold black on cyan"}
VITAL_NAME = {"hr": "heart rate", "glucose": "glucose"}
VITAL_UNIT = {"1/min": "/min"}
TRACE_S = 6.0
TRACE_ROWS = 6
TRACE_MV = (-0.9, 1.9)
ALERTS_SHOWN = 8


class Display(Protocol):
    """Where the demo shows what happens. Times in seconds from the first sample."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None: ...

    def say(self, text: str) -> None: ...

    def sent(self, chunk: Chunk, t0_ns: int) -> None: ...

    def vital(self, code: str, value: float, unit: str) -> None: ...

    def began(self, alert: Heard) -> None: ...

    def ended(self, alert: Heard, t_s: float) -> None: ...

    def advance(self, t_s: float) -> None: ...


class PlainDisplay:
    """Lines, one for everything that happens."""

    def __init__(self, programme: Programme, console: Console) -> None:
        self._programme = programme
        self._console = console
        self._phase = ""
        self._shown_s = 0.0
        self._vitals: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        pass

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def sent(self, chunk: Chunk, t0_ns: int) -> None:
        pass

    def vital(self, code: str, value: float, unit: str) -> None:
        self._vitals[code] = _vital_text(code, value, unit)

    def began(self, alert: Heard) -> None:
        self.say(f"{alert.heard_s:6.1f} s  ALERT {alert.priority}: {alert.text}")

    def ended(self, alert: Heard, t_s: float) -> None:
        self.say(f"{t_s:6.1f} s  over: {alert.rule}")

    def advance(self, t_s: float) -> None:
        phase = self._programme.phase(t_s)
        if phase != self._phase:
            self._phase = phase
            self.say(f"{t_s:6.1f} s  {phase}")
        if t_s - self._shown_s >= 5.0 and self._vitals:
            self._shown_s = t_s
            self.say(f"{t_s:6.1f} s  {', '.join(self._vitals.values())}")


class LiveDisplay:
    """A picture that moves: the ECG as it is sent, what the script is doing, numbers, and alerts as they are heard."""

    def __init__(self, programme: Programme, console: Console) -> None:
        self._programme = programme
        self._console = console
        rate_hz = programme.ecg.rate_hz
        self._ecg: npt.NDArray[np.float32] = np.full(round((programme.duration_s + 1) * rate_hz), np.nan, np.float32)
        self._t_s = 0.0
        self._word = ""
        self._vitals: dict[str, str] = {}
        self._alerts: list[Text] = []
        self._live = Live(console=console, refresh_per_second=10, transient=True, get_renderable=self.picture)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, where)

    def say(self, text: str) -> None:
        self._word = text

    def sent(self, chunk: Chunk, t0_ns: int) -> None:
        # Chunks are handed over a little before they are sent: the picture shows them as time reaches them.
        at = round((chunk.t0_ns - t0_ns) / NS_PER_S * self._programme.ecg.rate_hz)
        fitting = chunk.samples[: max(0, len(self._ecg) - at), 0]
        self._ecg[at : at + len(fitting)] = fitting

    def vital(self, code: str, value: float, unit: str) -> None:
        self._vitals[code] = _vital_text(code, value, unit)

    def began(self, alert: Heard) -> None:
        line = Text(f"{alert.heard_s:6.1f} s ")
        line.append(f" {alert.priority.upper():^6} ", STYLE.get(alert.priority, "bold"))
        line.append(f" {alert.text}")
        self._alerts.append(line)

    def ended(self, alert: Heard, t_s: float) -> None:
        self._alerts.append(Text(f"{t_s:6.1f} s  over    {alert.rule}", style="dim"))

    def advance(self, t_s: float) -> None:
        self._t_s = min(max(t_s, 0.0), self._programme.duration_s)

    def picture(self) -> RenderableType:
        """What is on the screen now."""
        programme = self._programme
        width = max(20, min(100, self._console.width - 4))
        rate_hz = programme.ecg.rate_hz
        shown = np.full(round(TRACE_S * rate_hz), np.nan, np.float32)
        past = self._ecg[: round(self._t_s * rate_hz)][-len(shown) :]
        shown[: len(past)] = past
        lines = trace(shown, width, TRACE_ROWS, *TRACE_MV)
        progress = Table.grid(padding=(0, 1))
        progress.add_row(
            ProgressBar(total=programme.duration_s, completed=self._t_s, width=24),
            f"{self._t_s:4.0f} of {programme.duration_s:.0f} s",
            Text(programme.phase(self._t_s), style="bold"),
        )
        numbers = Text("   ".join(self._vitals.values()) or "waiting for the first numbers", style="bold green")
        alerts = self._alerts[-ALERTS_SHOWN:] or [Text("no alerts so far", style="dim")]
        return Panel(
            Group(progress, Text("\n".join(lines), style="green", no_wrap=True), numbers, Text(self._word), *alerts),
            title=f"vagus demo: {programme.title}",
            subtitle="research software, not a medical device",
        )


def is_shown(code: str) -> bool:
    """Whether a number is one to look at while the demo plays: batteries and reception are not."""
    return code in VITAL_NAME


def _vital_text(code: str, value: float, unit: str) -> str:
    return f"{VITAL_NAME.get(code, code)} {value:.0f} {VITAL_UNIT.get(unit, unit)}".replace(" /", "/")
