"""The page: one HTML file that needs nothing else, no script and no network."""

from __future__ import annotations

import numpy as np

from agent import __version__
from agent.report.alarms import AlarmTable, RuleCount
from agent.report.forecast import Forecasts
from agent.report.glucose_charts import day_charts, profile_chart, range_bar, range_shares
from agent.report.heart import Heart
from agent.report.heart_charts import rate_chart
from agent.report.markup import Markup, join, tag
from agent.report.period import Period
from agent.report.sentences import in_short, insufficient
from agent.report.style import STYLE
from agent.report.summary import LEAST_DAYS_OF_PROFILE, GlucoseSummary, Summary
from agent.report.words import (
    NOTHING,
    GlucoseUnit,
    clock,
    counted,
    day_name,
    long_day,
    number,
    percent,
    rule_name,
    short_day,
    span,
)
from agent.signal.glycaemia import Measures

DISCLAIMER = "Research software, not a medical device"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""The page loads nothing; a browser holds it to that, whatever a text in it may try."""


def page(period: Period, summary: Summary, unit: GlucoseUnit, made_at: str) -> str:
    """The whole document. `made_at`: local time, in words."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("title", f"{summary.patient}, {long_day(summary.first_day)} to {long_day(summary.last_day)}"),
        tag("style", STYLE),
    )
    parts = [_header(summary, made_at), _brief(summary, unit)]
    if summary.glucose is not None:
        parts.append(_glucose(period, summary.glucose, unit))
    if summary.forecasts is not None:
        parts.append(_forecasts(summary.forecasts, unit))
    if summary.heart is not None:
        parts.append(_heart(summary.heart))
    if summary.alarms.rules:
        parts.append(_alarms(summary.alarms))
    return f"<!doctype html>\n{tag('html', head, tag('body', tag('main', parts, _footer(summary))), lang='en')}\n"


def _header(summary: Summary, made_at: str) -> Markup:
    days = counted(summary.days, "day")
    return tag(
        "header",
        tag(
            "div",
            tag("h1", summary.patient),
            tag(
                "p", f"{long_day(summary.first_day)} to {long_day(summary.last_day)} · {days} · times in {summary.zone}"
            ),
        ),
        tag("p", tag("strong", DISCLAIMER), tag("br"), f"made {made_at} by vagus {__version__}", class_="mark"),
    )


def _brief(summary: Summary, unit: GlucoseUnit) -> Markup:
    if summary.is_empty:
        text = f"No data: nothing is kept of {summary.patient} for these {counted(summary.days, 'day')}."
        return tag("section", tag("h2", "In short"), tag("p", text, class_="notice"), class_="brief")
    sentences = in_short(summary, unit)
    newest = tag("p", f"The newest data is of {summary.until}.", class_="note")
    items = tag("ul", [tag("li", sentence) for sentence in sentences])
    return tag("section", tag("h2", "In short"), items, newest, class_="brief")


# -- glucose ----------------------------------------------------------------------------------------------------------


def _glucose(period: Period, glucose: GlucoseSummary, unit: GlucoseUnit) -> Markup:
    measures = glucose.over.measures
    few = glucose.days_with_readings < LEAST_DAYS_OF_PROFILE
    caption = (
        f"Each line is a day: {counted(glucose.days_with_readings, 'day')} with readings are too few for a profile."
        if few
        else "Half of the readings lie in the darker band, nine of ten in the lighter one, over all days."
    )
    return tag(
        "section",
        tag("h2", "Glucose"),
        tag("p", insufficient(glucose), class_="notice") if measures is None else _key_numbers(measures, unit),
        tag(
            "div",
            tag("figure", range_bar(measures)) if measures else None,
            _range_table(measures, unit) if measures else None,
            _measure_table(glucose, unit),
            class_="glance" if measures else None,
        ),
        tag("h3", f"A usual day, {unit.name}"),
        tag("figure", profile_chart(period, glucose, unit), tag("figcaption", caption), class_="chart"),
        None if few else _profile_table(glucose, unit),
        tag("h3", "Day by day"),
        day_charts(period, glucose, unit),
        tag("p", f"0 to 24 h; the green band is {unit.show(70)} to {unit.measure(180)}, the share is what lies in it.",
            class_="note"),
    )  # fmt: skip


def _key_numbers(measures: Measures, unit: GlucoseUnit) -> Markup:
    """The four that are looked at first."""
    shown = [
        (number(measures.in_range_percent), "%", "in range"),
        (unit.show(measures.mean_mg_dl), unit.name, "mean"),
        (number(measures.gmi_percent, 1), "%", "glucose management indicator"),
        (number(measures.cv_percent), "%", "variability (CV)"),
    ]
    return tag(
        "dl",
        [tag("div", tag("dt", name), tag("dd", value, " ", tag("span", of, class_="of"))) for value, of, name in shown],
        class_="key",
    )


def _range_table(measures: Measures, unit: GlucoseUnit) -> Markup:
    goals = {"very-high": "< 5 %", "in-range": "> 70 %", "very-low": "< 1 %"}
    bounds = {
        "very-high": f"above {unit.show(250)}",
        "high": f"{unit.show(181)}–{unit.show(250)}",
        "in-range": f"{unit.show(70)}–{unit.show(180)}",
        "low": f"{unit.show(54)}–{unit.show(69)}",
        "very-low": f"below {unit.show(54)}",
    }
    rows = [
        tag(
            "tr",
            tag("th", tag("span", class_=f"swatch {name}"), title, " ", tag("span", bounds[name], class_="soft"),
                scope="row"),
            tag("td", percent(share, 1 if share < 10 else 0), class_="n value"),
            tag("td", span(864.0 * share), class_="n soft"),
            tag("td", goals.get(name, ""), class_="n goal"),
            class_="range-in" if name == "in-range" else None,
        )
        for name, title, share in range_shares(measures)
    ]  # fmt: skip
    return _table(f"Time in ranges, {unit.name}", ("Range", "Share", "A day", "Goal *"), rows)


def _measure_table(glucose: GlucoseSummary, unit: GlucoseUnit) -> Markup:
    over, measures = glucose.over, glucose.over.measures
    rows: list[tuple[str, str, str]] = [
        ("Readings came for", percent(100 * over.coverage), "≥ 70 %"),
        ("Readings", f"{over.readings:,}", f"every {glucose.interval_s / 60:.0f} min"),
    ]
    if measures is not None:
        rows = [
            ("Mean ± SD",
             f"{unit.show(measures.mean_mg_dl)} ± {unit.show(measures.sd_mg_dl)}", unit.name),
            ("Variability, CV", percent(measures.cv_percent), "≤ 36 %"),
            (f"Below {unit.show(70)} in all", percent(measures.below_70_percent, 1), "< 4 %"),
            (f"Above {unit.show(180)} in all", percent(measures.above_180_percent, 1), "< 25 %"),
            ("LBGI, HBGI", f"{measures.lbgi:.1f}, {measures.hbgi:.1f}", "risk of lows, highs"),
            ("Glycaemia risk", number(measures.gri), "GRI, 0 to 100"),
            *rows,
        ]  # fmt: skip
    if glucose.back_filled:
        rows.append(("Back-filled", f"{glucose.back_filled:,}", "came late"))
    if glucose.doubted:
        rows.append(("Doubted", f"{glucose.doubted:,}", "counted too"))
    cells = [
        tag("tr", tag("th", name, scope="row"), tag("td", value, class_="n value"), tag("td", goal, class_="n goal"))
        for name, value, goal in rows
    ]
    return _table("Measures", ("", "", "Goal *"), cells)


def _profile_table(glucose: GlucoseSummary, unit: GlucoseUnit) -> Markup:
    """Every hour of the profile, for those who cannot see it."""
    shown = [k for k, minute in enumerate(glucose.profile.minute_of_day.tolist()) if minute % 60 == 0]
    rows = [
        tag(
            "tr",
            tag("th", clock(glucose.profile.minute_of_day[k]), scope="row"),
            [tag("td", unit.show(v) if np.isfinite(v) else NOTHING, class_="n") for v in glucose.profile.mg_dl[:, k]],
            tag("td", str(glucose.profile.readings[k]), class_="n"),
        )
        for k in shown
    ]
    heads = ("Time", "5 %", "25 %", "Median", "75 %", "95 %", "Readings")
    return tag("details", tag("summary", "The same in numbers"), _table(f"A usual day, {unit.name}", heads, rows))


# -- forecasts --------------------------------------------------------------------------------------------------------


def _forecasts(forecasts: Forecasts, unit: GlucoseUnit) -> Markup:
    rows = [
        tag(
            "tr",
            tag("th", f"{horizon.minutes} min ahead", scope="row"),
            tag("td", f"{horizon.pairs:,}", class_="n"),
            tag("td", unit.fine(horizon.rmse_mg_dl), class_="n value"),
            tag("td", unit.fine(horizon.last_value_rmse_mg_dl), class_="n"),
            tag("td", unit.fine(horizon.bias_mg_dl), class_="n"),
            tag("td", percent(horizon.interval_percent), class_="n"),
        )
        for horizon in forecasts.horizons
    ]
    heads = ("", "Forecasts", "RMSE", "Last value's", "Bias", "In interval")
    lows = forecasts.lows
    warnings = [
        ("Lows that came", f"{lows.came}"),
        ("… warned of in the half hour before", f"{lows.warned}"),
        ("… a quarter of an hour ahead or more", f"{lows.early}"),
        ("Warnings of a low", f"{lows.warnings}"),
        ("… with no low in the half hour after", f"{lows.false}"),
        ("… a day", number(lows.false_per_day, 2)),
    ]
    return tag(
        "section",
        tag("h2", "Forecasts against what came"),
        tag(
            "div",
            tag("div", _table(f"Errors, {unit.name}", heads, rows), class_="wide"),
            _facts("Warnings of a low", warnings),
            class_="pair",
        ),
        tag("p", "The interval is meant to hold nine of ten. A last value's error is what no forecast at all would"
            " have.", class_="note"),
    )  # fmt: skip


# -- heart ------------------------------------------------------------------------------------------------------------


def _heart(heart: Heart) -> Markup:
    facts = [
        ("ECG seen", f"{span(3600 * heart.seen_h)}, {percent(heart.seen_percent)} of the time"),
        ("… of it usable", percent(heart.usable_percent)),
        ("Mean heart rate", f"{number(heart.mean_bpm)} bpm"),
        ("Five-minute means", f"{number(heart.lowest_bpm)} to {number(heart.highest_bpm)} bpm"),
        ("Longest interval between beats", f"{number(heart.longest_interval_s, 1)} s"),
        ("Alarms for a pause or asystole", f"{heart.pauses}"),
        ("Beats judged", f"{heart.beats:,}"),
        ("… taken for ventricular", percent(heart.ventricular_percent, 2)),
        ("… taken for supraventricular", percent(heart.supraventricular_percent, 2)),
        ("Rhythm judged", span(3600 * heart.rhythm_h) if heart.rhythm_h else NOTHING),
        ("… suggestive of atrial fibrillation", percent(heart.fibrillation_percent, 1)),
    ]
    return tag(
        "section",
        tag("h2", "Heart"),
        tag(
            "figure",
            rate_chart(heart),
            tag("figcaption", "Five-minute mean rates by hour of the day: the median, half of them, nine of ten. Below,"
                " how much of each hour was seen, and how much of it was usable."),
            class_="chart",
        ),
        tag("div", _facts("Signal and rate", facts[:6]), _facts("Beats and rhythm", facts[6:]), class_="pair even"),
        _heart_days(heart),
    )  # fmt: skip


def _heart_days(heart: Heart) -> Markup:
    rows = [
        tag(
            "tr",
            tag("th", day_name(day.day), scope="row"),
            tag("td", f"{day.seen_h:.1f}", class_="n"),
            tag("td", percent(day.usable_percent), class_="n"),
            tag("td", number(day.mean_bpm), class_="n"),
            tag("td", f"{number(day.lowest_bpm)}–{number(day.highest_bpm)}" if day.lowest_bpm else NOTHING, class_="n"),
            tag("td", percent(day.ventricular_percent, 2), class_="n"),
            tag("td", percent(day.fibrillation_percent, 1), class_="n"),
        )
        for day in heart.by_day
    ]
    heads = ("Day", "Seen, h", "Usable", "Mean bpm", "Five-minute means", "Ventricular", "As in AF")
    return tag("details", tag("summary", "Day by day"), _table("", heads, rows))


# -- alarms -----------------------------------------------------------------------------------------------------------


def _alarms(table: AlarmTable) -> Markup:
    most = max((count for rule in table.rules for count in rule.by_column), default=1)
    rows: list[Markup] = []
    for category, title in (("physiological", "About the person"), ("technical", "About the watching itself")):
        own = [rule for rule in table.rules if rule.category == category]
        if own:
            rows.append(tag("tr", tag("th", title, colspan=len(table.columns) + 4, scope="rowgroup"), class_="group"))
            rows += [_alarm_row(rule, most) for rule in own]
    each = "day" if table.days_a_column == 1 else "week"
    heads = [
        tag("th", "Rule", scope="col"),
        *(tag("th", short_day(day), scope="col", class_="c") for day in table.columns),
        tag("th", "All", scope="col", class_="n"),
        tag("th", "Again", scope="col", class_="n"),
        tag("th", "On for", scope="col", class_="n"),
    ]
    late = sum(rule.late for rule in table.rules)
    past = f"{counted(late, 'more')} found in late data: reports about the past." if late else None
    return tag(
        "section",
        tag("h2", "Alarms"),
        tag("div", tag("table", tag("caption", f"Alarms that began, by {each}"), tag("thead", tag("tr", heads)),
                       tag("tbody", rows), class_="counts"), class_="wide"),
        tag("p", past, class_="note") if past else None,
    )  # fmt: skip


def _alarm_row(rule: RuleCount, most: int) -> Markup:
    cells = [
        tag("td", tag("span", str(count), style=f"background: rgba(var(--count), {0.10 + 0.35 * count / most:.2f})"),
            class_="c") if count else tag("td", class_="c")
        for count in rule.by_column
    ]  # fmt: skip
    priority = tag("span", rule.priority, class_=f"priority is-{rule.priority}")
    return tag(
        "tr",
        tag("th", rule_name(rule.rule), " ", priority, scope="row"),
        cells,
        tag("td", str(rule.alarms), class_="n value"),
        tag("td", str(rule.said_again) if rule.said_again else "", class_="n soft"),
        tag("td", span(rule.on_s) + (", still on" if rule.still_on else ""), class_="n soft"),
    )


def _facts(caption: str, facts: list[tuple[str, str]]) -> Markup:
    rows = [tag("tr", tag("th", name, scope="row"), tag("td", value, class_="n value")) for name, value in facts]
    return _table(caption, (), rows)


def _table(caption: str, heads: tuple[str, ...], rows: list[Markup]) -> Markup:
    first = [tag("th", head, scope="col", class_="n" if k else None) for k, head in enumerate(heads)]
    return tag(
        "table",
        tag("caption", caption) if caption else None,
        tag("thead", tag("tr", first)) if heads else None,
        tag("tbody", rows),
    )


def _footer(summary: Summary) -> Markup:
    goals = (
        "* Goals are the international consensus for most adults with diabetes of type 1 or 2 (Battelino et al. 2019);"
        " a person's own may differ. GMI after Bergenstal et al. 2018, GRI after Klonoff et al. 2022, LBGI and HBGI"
        " after Kovatchev et al. Every share is one of readings; a hole is never filled."
    )
    heart = (
        "Heart rates are means of intervals between beats that nothing unusable lies between. Classes of beats and the"
        " rhythm are a model's answers, not read by anybody."
    )
    return tag(
        "footer",
        tag("p", goals) if summary.glucose is not None else None,
        tag("p", heart) if summary.heart is not None else None,
        tag("p", join(tag("strong", DISCLAIMER), ": no diagnosis, no dosing, nothing to rely on for anyone's safety.")),
    )
