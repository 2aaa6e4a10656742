"""A remix of stems that are there: by faders and mutes, and by takes where a preset has effects."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from typing import Any

import msgspec

from stembridge.errors import PresetError
from stembridge.presets import Level, Preset, find_presets, own_folder, read_preset
from stembridge.reaper.actions import ACTIONS
from stembridge.reaper.families import StemSets, find_families
from stembridge.reaper.remix_takes import (
    Group,
    RemixPlan,
    RemixSet,
    find_groups,
    find_members,
    find_render_refusal,
    plan_family,
    plan_tracks,
    plays_file,
)
from stembridge.reaper.snapshot import Snapshot, read_snapshot
from stembridge.reaper.threads.rendering import (
    Remix,
    find_preset_refusal,
    look,
    read_remixes,
    submit_renders,
)
from stembridge.reaper.turn import Start, Step, Turn
from stembridge.text import shorten

RESET = "reset"
"""The name that puts every fader back, and has the dry takes play."""
MEMORY = "remix"
TITLE_CELLS = 160
"""What a window's title has room for."""
MAX_TRIES = 5


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
        for parent, group in groups.items()
        if not selected or parent in selected or group.guids & selected
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


def _ask(turn: Turn, remix: Remix, reason: str, value: str) -> None:
    names = ", ".join([*_list_presets(turn), RESET])
    title = reason or f"remix with {shorten(names, TITLE_CELLS, f', {RESET}')}"
    turn.ask(
        f"Stembridge: {title}", f"Presets: {names}", "remix.chosen", remix,
        kind="fields", captions=["Preset"], values=[value],
    )  # fmt: skip


def _list_presets(turn: Turn) -> Iterator[str]:
    """Yield the names of presets that can be set here; one that cannot be read is told when it is chosen."""
    for name, path in find_presets(turn.house.settings).items():
        try:
            if find_preset_refusal(name, read_preset(path)):
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
        refusal = "" if name == RESET else find_preset_refusal(name, read_preset(presets[name]))
        if refusal:
            raise PresetError(refusal, f"render it: `stembridge remix DIR --preset {name}`")
    except PresetError as error:
        _ask(turn, remix, str(error), typed)
        return
    turn.remember(MEMORY, name)
    turn.collect("tagged", "remix.settled", msgspec.structs.replace(remix, preset=name))


def take_settled(turn: Turn, remix: Remix, result: Any) -> None:
    """Set what faders can set and what has been rendered; have rendered what is not yet."""
    snapshot = read_snapshot(result)
    try:
        preset = _find_preset(turn, remix.preset)
    except PresetError as error:
        turn.tell(str(error), is_error=True)
        return
    if preset is None or preset.is_level_only:
        _set_levels(turn, remix, preset, snapshot)
    elif not remix.renders:
        groups, families = find_groups(snapshot), find_families(snapshot)
        chosen = {
            family.items[0].guid: family
            for parent in remix.tracks
            for family in find_members(groups.get(parent, Group()), families)
        }
        submit_renders(turn, remix, preset, list(chosen.values()), snapshot.project.media_dir)
    else:
        _set_renders(turn, remix, snapshot)


def _find_preset(turn: Turn, name: str) -> Preset | None:
    """Return a preset; None for what puts everything back."""
    if name == RESET:
        return None
    presets = find_presets(turn.house.settings)
    if name not in presets:
        raise PresetError(f"preset {name!r} is gone", f"it was in {own_folder(turn.house.settings)}")
    return read_preset(presets[name])


def _set_levels(turn: Turn, remix: Remix, preset: Preset | None, snapshot: Snapshot) -> None:
    """Have faders and mutes set, and the dry takes play."""
    families = find_families(snapshot)
    sets = StemSets()
    plan = RemixPlan()
    for parent, group in find_groups(snapshot).items():
        if parent not in remix.tracks:
            continue
        try:
            levels = dict.fromkeys(group.stems, Level()) if preset is None else preset.levels(group.stems)
        except PresetError as error:
            if remix.tries == 0:
                turn.tell(f"{_name_track(snapshot, parent)}: {error}", is_error=True)
            continue
        plan_tracks(plan, snapshot, parent, group, levels, (), turn.preferences.looks)
        for family in find_members(group, families):
            if not any(stem.tag.takes for stem in family.stems):
                continue
            if family.is_locked:
                plan.remarks.append(f"{family.name}: it or one of its stems is locked, its takes stay")
            else:
                plan_family(plan, family, None, {}, sets, len(plan.operations))
    _apply(turn, remix, plan, snapshot)


def _set_renders(turn: Turn, remix: Remix, snapshot: Snapshot) -> None:
    """Have the takes that were rendered play; faders stand at 0 dB, as the takes have their gains."""
    remixes = read_remixes(turn, remix)
    families = find_families(snapshot)
    sets = StemSets()
    plan = RemixPlan()
    for parent, group in find_groups(snapshot).items():
        if parent not in remix.tracks:
            continue
        made = []
        for family in find_members(group, families):
            one = remixes.get(family.tag.job) if family.tag is not None else None
            if one is None or family.items[0].guid in remix.refused:
                continue
            reason = find_render_refusal(family, sets)
            if reason:
                plan.remarks.append(f"{family.name} was skipped: {reason}")
            else:
                made.append((family, one))
        if not made:
            continue
        levels = {stem: Level(1.0, _is_muted(stem, [one for _, one in made])) for stem in group.stems}
        added = tuple(dict.fromkeys(name for _, one in made for name in one.added))
        track_of = plan_tracks(plan, snapshot, parent, group, levels, added, turn.preferences.looks)
        for family, one in made:
            plan_family(plan, family, one, track_of, sets, len(plan.operations))
    if not plan.operations:
        for line in plan.remarks:
            turn.tell(line, is_error=True)
    _apply(turn, remix, plan, snapshot)


def _is_muted(stem: str, remixes: Collection[RemixSet]) -> bool:
    is_heard = any(stem in one.files for one in remixes)
    return not is_heard and any(stem in one.muted for one in remixes)


def _apply(turn: Turn, remix: Remix, plan: RemixPlan, snapshot: Snapshot) -> None:
    if not plan.operations:
        return
    now = msgspec.structs.replace(
        remix,
        silent=tuple(_find_silent(snapshot, remix.tracks)),
        lines=tuple(plan.remarks),
        chosen=plan.chosen,
        tries=remix.tries + 1,
    )
    operations = [*plan.expectations, *plan.operations]
    turn.apply(f"Stembridge: remix {remix.preset}", operations, "remix.done", now)


def _find_silent(snapshot: Snapshot, parents: Collection[str]) -> Iterator[str]:
    """Yield the names of items on those tracks of which the original is heard and not the stems."""
    for family in find_families(snapshot):
        original = family.original
        if original is None or original.track not in parents or original.values["B_MUTE"]:
            continue
        if family.stems and all(stem.is_muted for stem in family.stems):
            yield family.name


def _name_track(snapshot: Snapshot, guid: str) -> str:
    track = snapshot.find_track(guid)
    return track.name if track is not None and track.name else "a track that is gone"


def tell_result(turn: Turn, remix: Remix, result: Any) -> None:
    """Say what plays now; where something was just being changed, look again."""
    if not result.get("ok"):
        if result.get("reason") in ("changed", "missing") and remix.tries < MAX_TRIES:
            turn.collect("tagged", "remix.settled", remix)
            return
        reason = result.get("text") or result.get("reason")
        turn.tell(f"Remix {remix.preset}: REAPER refused: {reason}", is_error=True)
        return
    what = "the dry takes and the faders" if remix.renders else "the faders"
    if remix.preset == RESET:
        takes = ", and their dry takes play" if remix.chosen else ""
        turn.tell(f"All stems are at 0 dB again{takes}.")
    else:
        name = remix.preset.capitalize()
        turn.tell(f"{name} is set. Undo, or remix with `{RESET}`, puts {what} back.")
    for line in remix.lines:
        turn.tell(line, is_error=True)
    read = result.get("read", {})
    wrong = [path for guid, path in remix.chosen.items() if not plays_file(read.get(guid, ""), path)]
    for path in wrong:
        turn.tell(
            f"The takes of a stem are in another order now: choose that of {path} by hand.", is_error=True
        )
    if remix.silent:
        turn.tell(
            f"{', '.join(remix.silent)}: the stems are silent now, the original plays. "
            f"'{ACTIONS['toggle']}' switches to the stems."
        )


STARTS: dict[str, Start] = {"remix": start}
STEPS: dict[str, Step] = {
    "remix.collected": (Remix, take_stems),
    "remix.chosen": (Remix, take_choice),
    "remix.settled": (Remix, take_settled),
    "remix.look": (Remix, look),
    "remix.done": (Remix, tell_result),
}
