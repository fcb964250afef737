"""A rule that is called only where it asks to be says what it would say if it were always called."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from agent.alarms.limits import Limits
from agent.alarms.observation import (
    Beat,
    BeatStatus,
    Condition,
    Observation,
    OtherLead,
    Prediction,
    Quality,
    SignalLost,
    SignalStart,
)
from agent.alarms.rule import EcgRule
from agent.alarms.rulebook import Rulebook
from agent.alarms.rules import rhythm_rules, rules_of_two_leads, signal_rules

NS = 1_000_000_000
NOON_NS = 1_790_000_000 * NS

Moment = tuple[int, Observation | None]
"""What was seen at an instant, or that it came."""


@dataclass(frozen=True)
class Stretch:
    """So many seconds in which all is of one kind."""

    length_s: int
    good: bool = True
    activity_mv: float = 1.0
    rr_s: float = 0.0
    """0: no beats."""
    labels: str = "N"
    """Of the beats, in turn; a dot is one that is withdrawn."""
    shockable: float | None = None
    fibrillation: float | None = None
    lost: bool = False
    """The signal ends with it, and begins again with the next."""
    set_back_s: int = 0
    """By so much the clock is set back then."""


STRETCHES = st.lists(
    st.one_of(
        st.builds(
            Stretch,
            st.integers(1, 40),
            st.booleans() | st.just(True),
            st.sampled_from([0.05, 1.0]),
            st.sampled_from([0.0, 0.3, 0.45, 0.8, 1.9, 3.3, 6.0]),
            st.sampled_from(["N", "V", "NV", "VVVVVN", "N.", "NNS"]),
            st.sampled_from([None, 0.02, 0.97]),
            st.sampled_from([None, 0.02, 0.97]),
            st.sampled_from([False, False, True]),
            st.sampled_from([0, 0, 0, 1, 15, 700]),
        ),
        st.builds(Stretch, st.integers(1, 40)),
    ),
    min_size=1,
    max_size=20,
)


def seen_in(stretch: Stretch, at_ns: int) -> Iterator[Observation]:
    for second in range(stretch.length_s):
        start_ns = at_ns + second * NS
        end_ns = start_ns + NS
        yield Quality(start_ns, end_ns, stretch.good, "" if stretch.good else "flat", stretch.activity_mv, 0.9)
        for task, share in (("vf", stretch.shockable), ("rhythm", stretch.fibrillation)):
            if share is not None:
                label = {"vf": "shockable", "rhythm": "A"}[task] if share > 0.5 else "N"
                shares = (1 - share, share, 0.0, 0.0)
                yield Prediction(task, end_ns - 8 * NS, end_ns, label, max(shares), shares, usable=stretch.good)
    if stretch.rr_s:
        for k in range(int(stretch.length_s / stretch.rr_s)):
            r_ns = at_ns + round(k * stretch.rr_s * NS)
            label = stretch.labels[k % len(stretch.labels)]
            beat = Beat(r_ns, r_ns + NS // 4, BeatStatus.PROVISIONAL)
            yield beat
            if label == ".":
                yield replace(beat, at_ns=r_ns + 7 * NS // 10, status=BeatStatus.WITHDRAWN)
            else:
                yield Beat(
                    r_ns,
                    r_ns + 8 * NS // 10,
                    BeatStatus.CONFIRMED,
                    stretch.rr_s if k else None,
                    label,
                    0.9,
                    stretch.good,
                    ventricular=0.9 if label == "V" else 0.1,
                )


def moments(stretches: Sequence[Stretch], leads: int) -> Iterator[Moment]:
    at_ns = NOON_NS
    yield at_ns, SignalStart(at_ns)
    for stretch in stretches:
        seen = list(seen_in(stretch, at_ns))
        if leads == 2:
            seen += [OtherLead(one) for one in seen if isinstance(one, Beat | Quality)]
        at_ns += stretch.length_s * NS
        for one in sorted(seen, key=lambda one: one.at_ns):
            yield one.at_ns, one
        if stretch.lost:
            yield at_ns, SignalLost(at_ns, "lost")
        at_ns -= stretch.set_back_s * NS
        yield at_ns, None
        if stretch.lost or stretch.set_back_s:
            yield at_ns, SignalStart(at_ns)


def rules(leads: int) -> list[EcgRule]:
    limits = Limits(pvc_burden_above_percent=5.0)
    return [*(rhythm_rules if leads == 1 else rules_of_two_leads)(limits), *signal_rules()]


@given(STRETCHES, st.sampled_from([1, 2]))
def test_called_where_it_asked_for_is_as_good_as_always_called(stretches: list[Stretch], leads: int) -> None:
    book, always = Rulebook(tuple(rules(leads))), rules(leads)
    for to_ns, seen in moments(stretches, leads):
        expected = [condition for rule in always for condition in rule.advance(to_ns)]
        assert book.advance(to_ns) == sorted(expected, key=lambda condition: condition.at_ns)
        if seen is not None:
            assert book.see(seen) == [condition for rule in always for condition in rule.see(seen)]


def test_every_rule_has_something_to_say_in_such_stretches() -> None:
    stretches = [
        Stretch(20, rr_s=0.8, activity_mv=1.0),
        Stretch(20, activity_mv=0.05),
        Stretch(40, rr_s=0.3),
        Stretch(40, rr_s=1.9),
        Stretch(20, rr_s=0.45, labels="V"),
        Stretch(20, rr_s=0.8, labels="NV"),
        Stretch(40, rr_s=0.8, labels="NNV", fibrillation=0.97),
        Stretch(40, rr_s=0.8, shockable=0.97, fibrillation=0.02),
        Stretch(30, rr_s=0.8, fibrillation=0.02),
        Stretch(40, good=False),
        Stretch(40, rr_s=0.8),
    ]
    book = Rulebook(tuple(rules(1)))
    found: list[Condition] = []
    for to_ns, seen in moments(stretches, 1):
        found += book.advance(to_ns)
        if seen is not None:
            found += book.see(seen)
    assert {condition.rule for condition in found if condition.active} == {rule.name for rule in rules(1)}
    assert {condition.rule for condition in found if not condition.active} >= {
        rule.name for rule in rules(1) if hasattr(rule, "due_ns")
    } - {"pvc_burden"}
