"""Splitting with a choice: what it will cost here, what is wanted, and then the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from stembridge import catalog
from stembridge.disk import estimate_disk
from stembridge.errors import RequestError, StembridgeError
from stembridge.estimate import reckoned_cost
from stembridge.reaper.families import Bonds
from stembridge.reaper.preferences import Preferences, locate_preferences, write_preferences
from stembridge.reaper.requests import (
    Options,
    Wanted,
    audio_seconds,
    choose_model,
    estimate_seconds,
    form_requests,
)
from stembridge.reaper.snapshot import Host, Item, read_snapshot
from stembridge.reaper.threads import refusals, splitting
from stembridge.reaper.threads.form import CAPTIONS, TITLE, read_fields, spell_field
from stembridge.reaper.threads.waiting import await_errand
from stembridge.reaper.turn import Start, Step, Turn
from stembridge.text import clock

FIELDS = ("quality", "model", "stems", "output")
IN_SELECTION = "Only in the time selection: y / n"
YES_NO = {"y": True, "yes": True, "n": False, "no": False}
_WORSE = 1.1
"""A choice that takes longer than was said, by more than this, is shown once more with its own figure."""


class Choice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is to be split, and what is known of its cost.

    Parameters
    ----------
    gflops : float32 matrix peak of this machine; 0 where it could not be measured
    values : what stands in the dialog's fields
    said_s : seconds that the dialog has named
    """

    items: tuple[Item, ...] = ()
    host: Host = Host()
    media_dir: str = ""
    errand: str = ""
    gflops: float | None = None
    values: tuple[str, ...] = ()
    said_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What a split takes.

    Parameters
    ----------
    seconds : None where this machine's speed is not known
    is_reckoned : the model has not run here yet, so that its time follows from what it is made of
    """

    audio_s: float
    seconds: float | None
    disk_bytes: int
    is_reckoned: bool


def start(turn: Turn) -> None:
    """Begin with what is selected."""
    turn.collect("tagged", "choose.selected", Choice())


def take_selection(turn: Turn, choice: Choice, result: Any) -> None:
    """Ask what is wanted of the selection; where nothing of it can be split, let the batch say why."""
    snapshot = read_snapshot(result)
    bonds = Bonds(snapshot)
    selected = [item for item in snapshot.items if item.is_selected]
    items = [item for item in selected if not refusals.find_refusal(turn, item, bonds)]
    if not items:
        splitting.start(turn, Options())
        return
    values = (*(spell_field(turn.preferences, name) for name in FIELDS), "n")
    _show(
        turn,
        msgspec.structs.replace(
            choice,
            items=tuple(items),
            host=snapshot.host,
            media_dir=snapshot.project.media_dir,
            values=values,
        ),
    )


def _show(turn: Turn, choice: Choice) -> None:
    """Show the dialog with the cost of what stands in its fields, or with what is wrong there."""
    try:
        preferences, options = _read(turn, choice)
        name = choose_model(options, preferences, turn.house.settings)
        if choice.gflops is None and _find_cost(turn, name) is None:
            errand = turn.house.start_errand("measure_speed", {})
            take_speed(turn, msgspec.structs.replace(choice, errand=errand), None)
            return
        cost = _reckon(turn, choice, preferences, options)
    except StembridgeError as error:
        _ask(turn, choice, str(error))
        return
    _ask(turn, msgspec.structs.replace(choice, said_s=cost.seconds or 0.0), _tell(choice.items, cost))


def _tell(items: Sequence[Item], cost: Cost) -> str:
    count = f"{len(items)} item{'s' * (len(items) != 1)}"
    time = f"about {clock(cost.seconds)}" if cost.seconds is not None else "this machine's speed is not known"
    time += " (first time: reckoned)" * (cost.seconds is not None and cost.is_reckoned)
    return f"{count}, {clock(cost.audio_s)} of audio: {time}, {max(1, round(cost.disk_bytes / 1e6))} MB"


def _ask(turn: Turn, choice: Choice, title: str) -> None:
    captions = [*(CAPTIONS[name] for name in FIELDS), IN_SELECTION]
    turn.ask(title, "", "choose.typed", choice, kind="fields", captions=captions, values=list(choice.values))


def take_speed(turn: Turn, choice: Choice, _result: Any) -> None:
    """Go on once it is known how fast this machine is."""
    errand = await_errand(turn, choice.errand, "choose.measured", choice)
    if errand is not None:
        gflops = 0.0 if errand.error is not None else float(errand.result["gflops"])
        _show(turn, msgspec.structs.replace(choice, gflops=gflops))


def take_values(turn: Turn, choice: Choice, result: Any) -> None:
    """Split with what was typed; what is wrong, or takes longer than was said, is shown once more."""
    if result.get("answer") != "yes":
        return
    choice = msgspec.structs.replace(choice, values=tuple(str(value) for value in result.get("values", [])))
    try:
        preferences, options = _read(turn, choice)
        name = choose_model(options, preferences, turn.house.settings)
        is_measured = choice.gflops is not None or _find_cost(turn, name) is not None
        cost = _reckon(turn, choice, preferences, options) if is_measured else None
    except StembridgeError as error:
        _ask(turn, choice, str(error))
        return
    if cost is None or (cost.seconds or 0.0) > choice.said_s * _WORSE:
        _show(turn, choice)
        return
    write_preferences(locate_preferences(turn.house.settings), preferences)
    splitting.start(turn, options)


def _read(turn: Turn, choice: Choice) -> tuple[Preferences, Options]:
    """Return what the fields say.

    Raises
    ------
    RequestError
        One of them says what cannot be.
    """
    *texts, answer = choice.values
    preferences = read_fields(turn.preferences, dict(zip(FIELDS, texts, strict=True)), turn.house.settings)
    is_inside = YES_NO.get(answer.strip().lower())
    if is_inside is None:
        raise RequestError(f"{TITLE}: only in the time selection = {answer!r}", "y or n")
    if is_inside and choice.host.time_selection[0] >= choice.host.time_selection[1]:
        raise RequestError(f"{TITLE}: there is no time selection", "answer n, or make one and run it again")
    return preferences, Options(in_time_selection=is_inside)


def _reckon(turn: Turn, choice: Choice, preferences: Preferences, options: Options) -> Cost:
    """Return what the split costs; what REAPER has to render first counts as if it were a file already."""
    windows = [refusals.find_window(options, choice.host, item) for item in choice.items]
    pairs = [
        (item, window)
        for item, window in zip(choice.items, windows, strict=True)
        if window is None or window[0] < window[1]
    ]
    items = [item for item, _ in pairs]
    wanted = form_requests(
        items,
        options,
        preferences,
        turn.house.settings,
        media_dir=choice.media_dir,
        baked={},
        lengths={},
        windows=[window for _, window in pairs],
    )
    model = catalog.find_model(choose_model(options, preferences, turn.house.settings))
    measured = speed = _find_cost(turn, model.name)
    if speed is None and choice.gflops:
        speed = reckoned_cost(model, choice.gflops)
    return Cost(
        audio_s=sum(audio_seconds(one, items) for one in wanted),
        seconds=None if speed is None else sum(estimate_seconds(one, items, speed) for one in wanted),
        disk_bytes=sum(_find_bytes(one, items, model) for one in wanted),
        is_reckoned=measured is None,
    )


def _find_cost(turn: Turn, model: str) -> float | None:
    """Return what was measured of a model in the precision that requests will have."""
    return turn.house.cost_of(model, turn.house.settings.precision)


def _find_bytes(wanted: Wanted, items: Sequence[Item], model: catalog.CatalogModel) -> int:
    media = items[wanted.items[0]].active.media
    seconds = audio_seconds(wanted, items)
    return estimate_disk(
        frames=round(seconds * media.rate),
        channels=media.channels,
        stems=len(catalog.check_stems(model, wanted.request.asked)),
        model_frames=round(seconds * model.sample_rate),
        double_residual=False,
    ).result_bytes


STARTS: dict[str, Start] = {"split_choose": start}
STEPS: dict[str, Step] = {
    "choose.selected": (Choice, take_selection),
    "choose.measured": (Choice, take_speed),
    "choose.typed": (Choice, take_values),
}
