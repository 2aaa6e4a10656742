"""Stems out of the project and their original back. No file is deleted: undo brings everything back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from stembridge.looks import Color, Looks
from stembridge.manifest import RESIDUAL
from stembridge.reaper import operations as do
from stembridge.reaper.families import (
    MADE_BY_HAND,
    Difference,
    Family,
    Kind,
    Stem,
    StemSets,
    choose_families,
    find_differences,
)
from stembridge.reaper.operations import TAG, Operation
from stembridge.reaper.placing import expect_unchanged
from stembridge.reaper.snapshot import Snapshot, Track, read_snapshot
from stembridge.reaper.tags import TrackTag, read_tag
from stembridge.reaper.turn import Start, Step, Turn

LABEL = "Stembridge: remove stems"
MAX_LINES = 15
MAX_TRIES = 5
WORKED_ON = MADE_BY_HAND | {Kind.FADER, Kind.TRACK_SOUND}
"""What a user has done to a stem, on its item or on its track."""
_OWN_COLOR = 0x1000000
_DRESS = {"D_VOL": 1.0, "D_PAN": 0.0, "D_PANLAW": 1.0, "B_PHASE": 0.0, "B_MAINSEND": 1.0, "B_MUTE": 0.0}
"""The values that a stem track has as long as nobody has changed them."""


class Removal(msgspec.Struct, frozen=True, omit_defaults=True):
    """A removal under way.

    Parameters
    ----------
    means_all : the user was asked, and wants all stems of the project removed
    answer : what the user wants of stems that were worked on
    lines : what to say when it is done
    """

    means_all: bool = False
    answer: str = ""
    lines: tuple[str, ...] = ()
    tries: int = 0


@dataclass(slots=True)
class _Plan:
    """What is to happen to the items; ``emptied`` are the tracks above those of the stems."""

    removed: list[Stem] = field(default_factory=list)
    emptied: set[str] = field(default_factory=set)
    operations: list[Operation] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def start(turn: Turn) -> None:
    """Begin with what is selected, or with all."""
    turn.collect("tagged", "remove.collected", Removal())


def take_collected(turn: Turn, removal: Removal, result: Any) -> None:
    """Ask about all stems of a project, and about those that were worked on; else have the stems removed."""
    snapshot = read_snapshot(result)
    families = choose_families(turn, snapshot)
    if not families:
        return
    able = [family for family in families if not _find_refusal(family)]
    if able and not removal.means_all and not any(item.is_selected for item in snapshot.items):
        _ask_for_all(turn, removal, able)
        return
    touched = find_touched(able, snapshot)
    if touched and not removal.answer:
        _ask(turn, removal, [line for lines in touched.values() for line in lines])
        return
    for family in families:
        if removal.tries == 0 and (reason := _find_refusal(family)):
            turn.tell(f"{family.name}: {reason}", is_error=True)
    plan = _Plan()
    for family in able:
        _plan_family(plan, family, {} if removal.answer == "yes" else touched)
    if plan.operations:
        plan.operations += remove_tracks(snapshot, plan.removed, plan.emptied, turn.preferences.looks)
        now = msgspec.structs.replace(removal, lines=tuple(plan.lines), tries=removal.tries + 1)
        turn.apply(LABEL, plan.operations, "remove.applied", now)


def _find_refusal(family: Family) -> str:
    """Return why the stems of a family stay, or ''."""
    if family.original is None:
        return "its original is gone, so its stems stay."
    if family.is_locked:
        return "it or one of its stems is locked, it stays as it is."
    return ""


def _ask_for_all(turn: Turn, removal: Removal, families: Sequence[Family]) -> None:
    whose = (
        f"all {len(families)} items" if len(families) > 1 else f"{families[0].name}, the only item with stems"
    )
    turn.ask(
        "Stembridge: remove stems",
        f"Nothing is selected. Remove the stems of {whose} of this project?",
        "remove.agreed",
        removal,
    )


def take_agreement(turn: Turn, removal: Removal, result: Any) -> None:
    """Go on with all of them, if that is wanted."""
    if result.get("answer") == "yes":
        agreed = msgspec.structs.replace(removal, means_all=True)
        turn.collect("tagged", "remove.collected", agreed)


def find_touched(families: Sequence[Family], snapshot: Snapshot) -> dict[str, list[str]]:
    """Return what was done to stems since they were placed, as lines, by the GUID of the stem's item."""
    sets = StemSets()
    found: dict[str, list[Difference]] = {}
    for family in families:
        by_item: dict[str, list[Difference]] = {}
        for difference in find_differences(family, snapshot, sets):
            if difference.kind in WORKED_ON:
                by_item.setdefault(difference.guid, []).append(difference)
        found |= by_item
    names = {item.guid: family.name for family in families for item in family.items}
    return {guid: [f"{names[guid]}: {one}" for one in differences] for guid, differences in found.items()}


def _ask(turn: Turn, removal: Removal, lines: list[str]) -> None:
    shown = lines[:MAX_LINES]
    if len(lines) > len(shown):
        shown.append(f"and {len(lines) - len(shown)} more")
    turn.ask(
        "Stembridge: remove stems",
        "These stems were worked on:\n\n"
        + "\n".join(shown)
        + "\n\nYes: remove them too; tracks that you have changed stay."
        + "\nNo: remove only the others; these stay, muted.",
        "remove.answered",
        removal,
        kind="yes_no_cancel",
    )


def take_answer(turn: Turn, removal: Removal, result: Any) -> None:
    """Go on as the user has said."""
    if result.get("answer") in ("yes", "no"):
        answered = msgspec.structs.replace(removal, answer=result["answer"])
        turn.collect("tagged", "remove.collected", answered)


def _plan_family(plan: _Plan, family: Family, touched: dict[str, list[str]]) -> None:
    """Add what removes the stems of a family that nobody worked on, and lets its original be heard again."""
    original, tag = family.original, family.tag
    assert original is not None
    assert tag is not None
    stems = (*family.stems, *family.leftovers)
    kept = [stem for stem in stems if stem.item.guid in touched]
    removed = [stem for stem in stems if stem.item.guid not in touched]
    plan.operations += expect_unchanged(original)
    plan.operations += [do.remove_item(stem.item.guid) for stem in removed]
    # Both would be heard otherwise; they can be switched to as before.
    plan.operations += [do.set_item(stem.item.guid, "B_MUTE", 1) for stem in kept]
    plan.operations.append(do.set_item(original.guid, "B_MUTE", float(tag.was_muted)))
    if not kept:
        plan.operations.append(do.set_item_text(original.guid, TAG, ""))
    plan.removed += removed
    plan.emptied.add(original.track)
    plan.lines.append(f"{family.name}: {_say_removed(removed, len(kept))}")


def _say_removed(removed: Sequence[Stem], kept: int) -> str:
    """Return how many stems are gone from the project, and where their files are, if they still are."""
    stay = f", {kept} stay{'s' * (kept == 1)} muted" if kept else ""
    if not removed:
        return f"no stem was left to remove{stay}."
    count = f"{len(removed)} stem{'s' * (len(removed) != 1)} removed{stay}."
    paths = dict.fromkeys(
        take.source.path
        for stem in removed
        if (take := stem.item.take) is not None and take.source is not None
    )
    folders = ", ".join(dict.fromkeys(str(Path(path).parent) for path in paths))
    gone = sum(not Path(path).is_file() for path in paths)
    if not gone:
        return f"{count} The files are still in {folders}"
    if gone == len(paths):
        return f"{count} The files are not in {folders} any more"
    return f"{count} {gone} of {len(paths)} files are not in {folders} any more"


def remove_tracks(
    snapshot: Snapshot, removed: Sequence[Stem], parents: Collection[str], looks: Looks
) -> list[Operation]:
    """Return what removes the stem tracks that are empty without those stems; every other keeps its parent.

    Those of ``parents`` go where they were empty before. What a removed track closes of folders, the one
    before it closes now.
    """
    gone = Counter(stem.item.track for stem in removed)
    doomed = [
        track
        for track in snapshot.tracks
        if gone[track.guid] == track.items and _is_disposable(track, gone, parents, looks)
    ]
    depths: dict[str, int] = {}
    heir = ""
    for track in snapshot.tracks:
        if track in doomed and heir:
            depths[heir] += track.depth
            depths[track.guid] = 0
        else:
            heir = track.guid
            depths[heir] = track.depth
    changed = [track for track in snapshot.tracks if depths[track.guid] != track.depth]
    return [
        *(
            do.expect_track(track.guid, _place(track))
            for track in snapshot.tracks
            if track in changed or track in doomed
        ),
        *(do.set_track(track.guid, "I_FOLDERDEPTH", depths[track.guid]) for track in changed),
        *(do.remove_track(track.guid) for track in doomed),
    ]


def _is_disposable(track: Track, gone: Collection[str], parents: Collection[str], looks: Looks) -> bool:
    """Tell whether a track is ours, was made for what goes now, and holds nothing of the user's."""
    tag = read_tag(track.tag)
    if not isinstance(tag, TrackTag) or (track.guid not in gone and tag.of not in parents):
        return False
    if track.fx or track.depth > 0 or track.values["I_RECARM"]:
        return False
    is_as_made = all(track.values[name] == value for name, value in _DRESS.items())
    return is_as_made and any(_has_look(track, tag.stem, known) for known in (looks, Looks()))


def _has_look(track: Track, stem: str, looks: Looks) -> bool:
    """Tell whether a track has the name and the colour of its stem; the residual's name ends with a level."""
    level = track.name.removeprefix(looks.of(stem).name).removesuffix(" dB")
    look = looks.of(stem, float(level) if stem == RESIDUAL and _is_number(level) else None)
    color = int(track.values["I_CUSTOMCOLOR"])
    return track.name == look.name and color in _spell_color(look.color)


def _is_number(text: str) -> bool:
    return text.strip().removeprefix("-").isdigit()


def _spell_color(color: Color) -> tuple[int, int]:
    """Return a colour as REAPER keeps it: which of the two depends on the system."""
    red, green, blue = color
    return red | green << 8 | blue << 16 | _OWN_COLOR, blue | green << 8 | red << 16 | _OWN_COLOR


def _place(track: Track) -> dict[str, float]:
    return {name: track.values[name] for name in ("IP_TRACKNUMBER", "I_FOLDERDEPTH")}


def take_applied(turn: Turn, removal: Removal, result: Any) -> None:
    """Say what was removed; where an item was just being changed, look again."""
    if result.get("ok"):
        for line in removal.lines:
            turn.tell(line)
    elif result.get("reason") in ("changed", "missing") and removal.tries < MAX_TRIES:
        turn.collect("tagged", "remove.collected", removal)
    else:
        reason = result.get("text") or result.get("reason")
        turn.tell(f"Nothing was removed: {reason}. Run the action again.", is_error=True)


STARTS: dict[str, Start] = {"remove": start}
STEPS: dict[str, Step] = {
    "remove.collected": (Removal, take_collected),
    "remove.agreed": (Removal, take_agreement),
    "remove.answered": (Removal, take_answer),
    "remove.applied": (Removal, take_applied),
}
