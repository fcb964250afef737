"""The models of a running agent: the installed packs or those that ship, each on the runtime that really works here.

A pack that cannot be used is a fault to be told, never a reason not to start: the agent goes on with less.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from agent.inference import INPUTS, Models, PackModel
from models.backends import CPU, RUNTIMES
from models.backends.guarded import GuardedBackend
from models.backends.probe import choose, quarantine
from models.manifest import PackError
from models.pack import ModelPack, available_packs
from models.store import Live, installed, live

log = logging.getLogger(__name__)

PACKS_FOLDER = "packs"
"""Of the state folder: where installed packs are."""
MAX_TEXT = 500
"""Of an alarm; the status and the log have the rest."""
EXPECTED = tuple(INPUTS)
"""Ids of the packs that ship, each named like its task. One that is missing or refused is an alarm."""
WITHOUT = {
    "qrs": "heart beats are found without a second opinion",
    "beat": "beats are not classified, no ventricular alarms",
    "rhythm": "no alarms on atrial fibrillation",
    "vf": "no alarms on ventricular fibrillation",
    "glucose": "no forecasts of glucose, no warning before a low or a high",
}
"""Per task what the agent does not do without its model."""


@dataclass(frozen=True, slots=True)
class PackState:
    """What became of one pack."""

    id: str
    runtime: str | None = None
    """What really runs it; None where nothing does."""
    version: str = ""
    installed: bool = False
    """False where it is the one that ships."""
    fault: str = ""
    """Why it is not used at all."""
    refused: tuple[str, ...] = ()
    """What else does not run it, and why; and why an installed pack was passed over."""

    @property
    def loss(self) -> str:
        """What is lost without it, and why, in words; empty where it runs."""
        return f"{WITHOUT[self.id]}: {self.fault}" if self.fault else ""


def live_models(state_dir: Path | None, runtime: str, clock: Callable[[], int]) -> tuple[Models, list[PackState]]:
    """The models to ask, and what became of each expected pack.

    `runtime`: a name in models.backends.RUNTIMES or "auto"; `clock`: the wall clock in ns, for the quarantine of
    runtimes. A runtime that fails later gives way to the CPU, and its state in the list is replaced then.
    """
    states: dict[str, PackState] = {}
    found: dict[str, Live] = {}
    folder = _folder(state_dir)
    beside = installed(folder) if folder is not None else []
    ids = list(dict.fromkeys([*EXPECTED, *(path.name for path in available_packs()), *beside]))
    for pack_id in (one for one in ids if one in INPUTS):
        try:
            found[pack_id] = _usable(live(pack_id, folder))
        except PackError as error:
            states[pack_id] = PackState(pack_id, fault=str(error))
    models: dict[str, PackModel] = {}
    told_of: list[PackState] = []
    for choice in choose([one.pack for one in found.values()], runtime, state_dir, clock()):
        pack_id = choice.pack.id
        one = found[pack_id]
        told = [f"the installed pack: {one.passed_over}"] if one.passed_over else []
        if choice.backend is not None:
            failed = partial(_failed, told_of, choice.pack, choice.backend.name, state_dir, clock)
            models[pack_id] = PackModel(choice.pack, GuardedBackend(choice.pack, choice.backend, failed))
        states[pack_id] = PackState(
            pack_id,
            choice.runtime,
            choice.pack.version,
            one.installed,
            "" if choice.backend is not None else str(choice.refused[-1]),
            tuple(told + [str(refusal) for refusal in choice.refused if choice.backend is not None]),
        )
    told_of += [states[pack_id] for pack_id in ids if pack_id in states]
    for state in told_of:
        _log(state)
    return Models(**models), told_of


def model_alarms(states: Sequence[PackState]) -> dict[str, str]:
    """Technical alarms that are on because of what became of the packs: the text of each, by rule."""
    missing = {f"model_missing:{state.id}": f"Model missing: {state.loss}" for state in states if state.fault}
    refused = {
        f"model_runtime:{state.id}": f"Model {state.id} runs on {state.runtime} instead: {'; '.join(state.refused)}"
        for state in states
        if state.refused and not state.fault
    }
    return {rule: text[:MAX_TEXT] for rule, text in {**missing, **refused}.items()}


def check_pack(pack: ModelPack) -> None:
    """Whether this version of the agent can use the pack; raises PackError where it cannot."""
    if pack.id not in INPUTS or pack.manifest.task != pack.id:
        raise PackError(pack.path, f"nothing here asks a pack called {pack.id!r} (packs are: {', '.join(INPUTS)})")
    PackModel.check(pack)


def _usable(found: Live) -> Live:
    """The same, where its inputs are those computed here; else the pack that ships."""
    try:
        check_pack(found.pack)
    except PackError as error:
        if not found.installed:
            raise
        return Live(live(found.pack.id, None).pack, False, str(error))
    return found


def _failed(
    states: list[PackState], pack: ModelPack, runtime: str, state_dir: Path | None, clock: Callable[[], int], why: str
) -> None:
    """`runtime` failed while it ran `pack`, and the CPU has taken over."""
    refusal = quarantine(pack, RUNTIMES[runtime], why, state_dir, clock())
    for place, state in enumerate(states):
        if state.id == pack.id:
            states[place] = replace(state, runtime=CPU.name, refused=(*state.refused, str(refusal)))


def _folder(state_dir: Path | None) -> Path | None:
    return None if state_dir is None else state_dir / PACKS_FOLDER


def _log(state: PackState) -> None:
    if state.fault:
        log.error("model %s cannot be used: %s", state.id, state.loss)
    else:
        log.info("model %s %s runs on %s", state.id, state.version, state.runtime)
    for reason in state.refused:
        log.warning("model %s: %s", state.id, reason)
