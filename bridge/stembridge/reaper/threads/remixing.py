"""A remix by the faders and mutes of stem tracks."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from typing import Any

import msgspec

from stembridge.errors import PresetError
from stembridge.presets import Level, find_presets, own_folder, read_preset
from stembridge.reaper import operations as do
from stembridge.reaper.actions import ACTIONS
from stembridge.reaper.families import find_families
from stembridge.reaper.operations import Operation
from stembridge.reaper.snapshot import Snapshot, Track, read_snapshot
from stembridge.reaper.tags import TrackTag, read_tag
from stembridge.reaper.turn import Start, Step, Turn
from stembridge.text import shorten

RESET = "reset"
"""The name that puts every fader back."""
MEMORY = "remix"
TITLE_CELLS = 160
"""What a window's title has room for."""


class Remix(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is to be done.

    Parameters
    ----------
    tracks : GUIDs of the tracks above the stems
    preset : a name
    silent : names of items whose original plays, so that nothing of this is heard
    """

    tracks: tuple[str, ...] = ()
    preset: str = ""
    silent: tuple[str, ...] = ()


def start(turn: Turn) -> None:
    """Begin with the stems that are there."""
    turn.collect("tagged", "remix.collected", Remix())


def take_stems(turn: Turn, _remix: Remix, result: Any) -> None:
    """Ask for a preset for the selection's stems, or for all where nothing is selected."""
    snapshot = read_snapshot(result)
    groups = find_groups(snapshot)
    selected = {item.track for item in snapshot.items if item.is_selected}
    wanted = tuple(
        parent
        for parent, tracks in groups.items()
        if not selected or parent in selected or any(track.guid in selected for track in tracks.values())
    )
    if not wanted:
        turn.tell(
            "The selected items have no stems: select some that have, or nothing for all."
            if selected and groups
            else "There are no stems in this project: split something first.",
            is_error=True,
        )
        return
    _ask(turn, Remix(wanted), "", turn.memory.get(MEMORY, ""))


def find_groups(snapshot: Snapshot) -> dict[str, dict[str, Track]]:
    """Return the stem tracks by stem, by the GUID of the track whose items they are of."""
    groups: dict[str, dict[str, Track]] = {}
    for track in snapshot.tracks:
        tag = read_tag(track.tag)
        if isinstance(tag, TrackTag):
            groups.setdefault(tag.of, {}).setdefault(tag.stem, track)
    return groups


def _ask(turn: Turn, remix: Remix, reason: str, value: str) -> None:
    names = ", ".join([*_list_presets(turn), RESET])
    title = reason or f"remix with {shorten(names, TITLE_CELLS, f', {RESET}')}"
    turn.ask(
        f"Stembridge: {title}", f"Presets: {names}", "remix.chosen", remix,
        kind="fields", captions=["Preset"], values=[value],
    )  # fmt: skip


def _list_presets(turn: Turn) -> Iterator[str]:
    """Yield the names of presets that faders can set; one that cannot be read is told when it is chosen."""
    for name, path in find_presets(turn.house.settings).items():
        try:
            if not read_preset(path).is_level_only:
                continue
        except PresetError:
            pass
        yield name


def take_choice(turn: Turn, remix: Remix, result: Any) -> None:
    """Look at the stems once more, now that it is known what to do with them."""
    if result.get("answer") != "yes":
        return
    typed = " ".join(str(value) for value in result.get("values", [])).strip()
    name = "-".join(typed.lower().split())
    presets = find_presets(turn.house.settings)
    try:
        if name != RESET and name not in presets:
            near = difflib.get_close_matches(name, [*presets, RESET], n=3, cutoff=0.5)
            raise PresetError(
                f"there is no preset {typed!r}", f"did you mean {' or '.join(near)}?" * bool(near)
            )
        if name != RESET and not read_preset(presets[name]).is_level_only:
            raise PresetError(
                f"preset {name} does more than faders can",
                f"render it: `stembridge remix DIR --preset {name}`",
            )
    except PresetError as error:
        _ask(turn, remix, str(error), typed)
        return
    turn.remember(MEMORY, name)
    turn.collect("tagged", "remix.settled", msgspec.structs.replace(remix, preset=name))


def set_levels(turn: Turn, remix: Remix, result: Any) -> None:
    """Set volume and mute of every stem track in one undo step."""
    snapshot = read_snapshot(result)
    groups = find_groups(snapshot)
    operations: list[Operation] = []
    for parent in remix.tracks:
        tracks = groups.get(parent, {})
        try:
            levels = _find_levels(turn, remix.preset, tracks)
        except PresetError as error:
            turn.tell(f"{_name_track(result, parent)}: {error}", is_error=True)
            continue
        for stem, track in tracks.items():
            operations.append(do.set_track(track.guid, "D_VOL", levels[stem].gain))
            operations.append(do.set_track(track.guid, "B_MUTE", float(levels[stem].is_muted)))
    if operations:
        silent = tuple(_find_silent(snapshot, remix.tracks))
        now = msgspec.structs.replace(remix, silent=silent)
        turn.apply(f"Stembridge: remix {remix.preset}", operations, "remix.done", now)


def _find_silent(snapshot: Snapshot, parents: Collection[str]) -> Iterator[str]:
    """Yield the names of items on those tracks of which the original is heard and not the stems."""
    for family in find_families(snapshot):
        original = family.original
        if original is None or original.track not in parents or original.values["B_MUTE"]:
            continue
        if family.stems and all(stem.is_muted for stem in family.stems):
            yield family.name


def _find_levels(turn: Turn, name: str, tracks: dict[str, Track]) -> dict[str, Level]:
    if name == RESET:
        return dict.fromkeys(tracks, Level())
    presets = find_presets(turn.house.settings)
    if name not in presets:
        raise PresetError(f"preset {name!r} is gone", f"it was in {own_folder(turn.house.settings)}")
    return read_preset(presets[name]).levels(tuple(tracks))


def _name_track(result: Any, guid: str) -> str:
    track = read_snapshot(result).find_track(guid)
    return track.name if track is not None and track.name else "a track that is gone"


def tell_result(turn: Turn, remix: Remix, result: Any) -> None:
    """Say what the stem tracks are set to now."""
    if not result.get("ok"):
        turn.tell(f"Remix {remix.preset}: REAPER refused: {result.get('text')}", is_error=True)
    elif remix.preset == RESET:
        turn.tell("All stems are at 0 dB again.")
    else:
        name = remix.preset.capitalize()
        turn.tell(f"{name} is set. Undo, or remix with `{RESET}`, puts the faders back.")
    if result.get("ok") and remix.silent:
        turn.tell(
            f"{', '.join(remix.silent)}: the stems are silent now, the original plays. "
            f"'{ACTIONS['toggle']}' switches to the stems."
        )


STARTS: dict[str, Start] = {"remix": start}
STEPS: dict[str, Step] = {
    "remix.collected": (Remix, take_stems),
    "remix.chosen": (Remix, take_choice),
    "remix.settled": (Remix, set_levels),
    "remix.done": (Remix, tell_result),
}
