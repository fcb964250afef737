"""The closed lists a pack's manifest may draw on: what the agent can prepare, and the answers it knows."""

from __future__ import annotations

from typing import Literal, get_args

Task = Literal["qrs", "beat", "rhythm", "vf", "glucose"]
"""What a pack is asked: where beats are; what each beat is; which rhythm; whether a rhythm is shockable; what glucose
will be."""

BeatLabel = Literal["N", "S", "V", "F", "Q"]
"""AAMI EC57 beat classes: normal, supraventricular ectopic, ventricular ectopic, fusion, unclassifiable or paced."""

RHYTHM_LABELS = ("N", "A", "O", "~")
"""The answers of a rhythm pack, in the order of its logits."""

GLUCOSE_LABELS = ("lt70_30", "le54_20", "gt250_30")
"""The events whose probabilities a glucose pack gives, in the order of its logits: any reading below 70 mg/dL within
30 min, at most 54 within 20, above 250 within 30."""

LABELS: dict[Task, frozenset[str]] = {
    "qrs": frozenset({"beat"}),
    "beat": frozenset(get_args(BeatLabel)),
    "rhythm": frozenset(RHYTHM_LABELS),
    "vf": frozenset({"other", "shockable"}),
    "glucose": frozenset(GLUCOSE_LABELS),
}
"""The answers the agent understands. Rhythm: sinus, atrial fibrillation, other, too noisy to say (CinC 2017)."""

PrepareStep = Literal[
    "median_baseline",
    "decimate_2",
    "scale_normal_qrs",
    "difference_to_normal",
    "asinh_compress",
    "decimate_4",
    "straight_baseline",
    "scale_typical_second",
    "rr_track",
    "moving_mean_baseline",
    "scale_window_and_level",
    "scale_window",
]
"""Steps between the morphology path at 250 Hz and a network's `signal` input, in the order they are listed."""

_RR = (
    "rr_absolute",
    "rr_vs_median8",
    "rr_vs_median32",
    "rr_vs_q10",
    "rr_vs_q25",
    "rr_vs_q50",
    "rr_vs_q75",
    "rr_vs_q90",
    "rr_prev1",
    "rr_prev2",
    "rr_prev3",
    "rr_prev4",
    "rr_prev5",
    "rr_prev6",
    "rr_spread",
    "rr_irregularity8",
    "rr_irregularity32",
    "rr_trend",
    "rr_short_share",
    "rr_vs_mean128",
    "rr_vs_mean512",
    "rr_vs_mean2048",
    "rr_fast_run",
    "rr_fast_run_onset",
)
_SHAPE = (
    "qrs_similarity_normal",
    "qrs_similarity_cluster",
    "cluster_share",
    "cluster_late_share",
    "cluster_rr_ratio",
    "cluster_is_normal",
    "normal_share",
    "qrs_amplitude_ratio",
    "qrs_width",
    "qrs_width_ratio",
    "qrs_polarity",
    "qrs_slope_ratio",
    "p_correlation",
    "p_difference",
    "p_energy",
    "p_energy_normal",
    "p_unsteadiness",
    "t_correlation",
    "t_difference",
    "noise",
    "warm_up",
)
_HISTORY = tuple(
    f"{name}_prev{lag}"
    for name in ("qrs_similarity_normal", "p_correlation", "p_difference", "t_difference")
    for lag in (1, 2, 3, 4)
)

_AROUND = (
    "step_median8",
    "step_median16",
    "step_median28",
    "step_least_lag28",
    "step_q25",
    "step_q50",
    "step_q75",
    "step_least_lag8",
    "p_correlation_without_t",
    "p_difference_without_t",
    "p_energy_without_t",
    "before_without_t",
    "qrs_similarity_last",
    "rr_vs_second_last",
    "p_cluster_similarity",
    "p_cluster_share",
    "p_cluster_rr_ratio",
    "p_cluster_late_share",
    "p_cluster_is_normal",
    "p_similarity_normal",
)
_FOLLOWERS = (
    "next_known",
    "next_rr_vs_q50",
    "next_rr_vs_rr",
    "next_rr_vs_median8",
    "next_compensation",
    "second_known",
    "second_rr_vs_q50",
    "next_qrs_similarity_normal",
    "next_qrs_similarity",
    "next_p_correlation",
    "next_p_difference",
)
BEAT_CONTEXT: tuple[str, ...] = (*_RR, *_SHAPE, *_AROUND, *_FOLLOWERS, *_HISTORY)
"""Every context feature the agent computes for a beat (agent/signal/beat_features.py), in that module's order."""

QRS_CONTEXT: tuple[str, ...] = ()
RHYTHM_CONTEXT: tuple[str, ...] = (
    "seconds_known",
    "beats_per_second",
    "rr_median",
    "rr_count",
    "rr_step_median",
    "rr_step_mean",
    "rr_step_rms",
    "rr_step_below_3",
    "rr_step_3_to_6",
    "rr_step_6_to_12",
    "rr_step_12_to_25",
    "rr_step_above_25",
    "rr_q10",
    "rr_q25",
    "rr_q75",
    "rr_q90",
    "rr_entropy_5",
    "rr_entropy_12",
    "rr_matches_5",
    "rr_matches_12",
    "rr_correlation_1",
    "rr_correlation_2",
    "rr_correlation_3",
    "rr_step_correlation_1",
    "rr_early_share",
    "rr_late_share",
    "rr_early_late_share",
    "rr_both_steps_6",
    "rr_both_steps_12",
    "rr_calm_share",
    "rr_calm_step_rms",
    "rr_turning_share",
    "rr_steady_run_share",
    "rr_bend_median",
    "rr_shortest",
    "rr_longest",
    "beat_likeness_mean",
    "beat_likeness_deviation",
    "beat_unlike_share",
    "beat_unlike_early_share",
    "p_energy",
    "p_consistency",
    "p_range",
    "p_place",
    "p_beat_energy",
    "t_energy",
    "t_consistency",
    "qrs_width",
    "qrs_polarity",
    "qrs_deviation",
    "amplitude",
    "hiss",
    "baseline",
    "loud_seconds",
    "quiet_seconds",
    "extreme",
)
"""Of a rhythm window (agent/signal/rhythm_window.py), in that module's order."""
VF_CONTEXT: tuple[str, ...] = (
    "height_rms",
    "height_least",
    "height_median",
    "height_most",
    "height_last",
    "height_spread",
    "baseline_ratio",
    "hiss_ratio",
    "hiss_height",
    "share_below_5",
    "share_below_10",
    "share_below_20",
    "share_below_35",
    "share_below_50",
    "crossing_rate",
    "crossing_regularity",
    "slope_ratio",
    "curvature_ratio",
    "slope_quiet_share",
    "slope_peakedness",
    "peakedness",
    "skewness",
    "leakage",
    "halves_ratio",
    *(f"likeness_{lag}_ms" for lag in (112, 144, 176, 208, 240, 288, 336, 384, 448, 512, 592, 688, 800, 928, 1072)),
    "slope_25_to_97",
    "slope_50_to_97",
    "slope_75_to_97",
    "slope_90_to_97",
    "recent_slope_50_to_97",
    "recent_slope_75_to_97",
    "recent_slope_90_to_97",
    "envelope_variation",
    "envelope_least_to_most",
    "envelope_quarters",
    "recent_envelope_variation",
    "recent_envelope_least_to_most",
    "recent_envelope_quarters",
    "recent_share_below_5",
    "recent_share_below_10",
    "recent_share_below_20",
    "recent_crossing_rate",
    "recent_slope_ratio",
    "recent_peakedness",
    "recent_slope_peakedness",
)
"""Of a window of the last seconds (agent/signal/vf_window.py), in that module's order."""

GLUCOSE_CONTEXT: tuple[str, ...] = ()

CONTEXT: dict[Task, tuple[str, ...]] = {
    "qrs": QRS_CONTEXT,
    "beat": BEAT_CONTEXT,
    "rhythm": RHYTHM_CONTEXT,
    "vf": VF_CONTEXT,
    "glucose": GLUCOSE_CONTEXT,
}
"""Per task, the context features that the agent computes, in order."""
