"""The end of a demo: what came, how fast, what did not, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.demo.truth import Heard, Verdict

NEXT = """
{seen}

The agent ran with a config like this one:

{config}
Next:
  1. Save that as vagus.toml; put your own broker under [mqtt] and your own sensor under [[patient.source]]
     (vagus scan             shows what wearables are near by, with the lines to paste)
  2. vagus check vagus.toml     says what is wrong in it, with the line
  3. vagus run vagus.toml       runs the agent
  4. vagus subscribe            in another terminal, shows alerts as they come
"""

OVER_MQTT = """\
What you saw: a sensor (here made of software) published its signal over MQTT to a broker on this machine. `vagus run`,
in a process of its own, found and classified the beats, judged them by its rules, put each alert on disk and
published it. This program subscribed, like any other subscriber would, and compared with what it knew was coming."""
OVER_BLUETOOTH = """\
What you saw: a chest strap and a glucose sensor, made of software as is the Bluetooth between. `vagus run`, in a
process of its own, found both, took in the ECG of the one, was paired with the other and asked it for the three hours
of glucose that it had stored. It found and classified the beats, judged all by its rules, put each alert on disk and
published it over MQTT. This program subscribed, like any other would, and compared with what it knew was coming."""


def show_verdicts(console: Console, verdicts: Sequence[Verdict]) -> None:
    """A table of every alarm the script called for and every alert that came."""
    if not verdicts:
        console.print("Nothing had to come in so short a time, and nothing came.", highlight=False)
        return
    table = Table(title="Alerts against the script", title_justify="left")
    for name in ("alarm", "onset", "heard", "latency", ""):
        table.add_column(name, justify="left" if name in {"alarm", ""} else "right", no_wrap=True)
    for verdict in verdicts:
        expected, heard = verdict.expected, verdict.heard
        table.add_row(
            (heard.rule.split(":")[0] if heard else expected.rule if expected else "").replace("_", " "),
            f"{expected.onset_s:.1f} s" if expected else "-",
            f"{heard.heard_s:.1f} s" if heard else "-",
            "-" if verdict.latency_s is None else f"{verdict.latency_s:.1f} s",
            _word(verdict),
        )
    console.print(table)
    console.print(
        "Latency counts from the true onset to this subscriber; most of it is the alarm's own definition: asystole is "
        "4 s without a beat.",
        highlight=False,
        soft_wrap=True,
    )


def _word(verdict: Verdict) -> Text:
    if verdict.heard is None:
        return Text("MISSED", style="bold red")
    if verdict.expected is None:
        return Text("not in the script", style="bold red")
    return Text("came", style="green")


def show_heard(console: Console, heard: Sequence[Heard]) -> None:
    """For a recording, where nobody says what had to come: what came."""
    if not heard:
        console.print("No alert in this stretch.", highlight=False)
        return
    table = Table(title="Alerts", title_justify="left")
    for name in ("priority", "onset", "heard", "alert"):
        table.add_column(name)
    for alert in heard:
        table.add_row(alert.priority, f"{alert.onset_s:.1f} s", f"{alert.heard_s:.1f} s", alert.text)
    console.print(table)


def show_next(console: Console, config: str) -> None:
    """How the person goes on from here."""
    indented = "".join(f"    {line}\n" if line else "\n" for line in config.splitlines())
    seen = OVER_BLUETOOTH if 'type = "ble"' in config else OVER_MQTT
    console.print(NEXT.format(config=indented, seen=seen), markup=False, highlight=False, soft_wrap=True)
