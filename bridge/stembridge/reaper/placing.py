"""A set of stems onto an item, as the item is now: the operations that put them at the original's samples."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from stembridge.looks import Looks
from stembridge.manifest import RESIDUAL
from stembridge.reaper import operations as do
from stembridge.reaper.fitting import (
    FADES,
    PLACE,
    TAKE_SOUND,
    TAKE_SPEED,
    TIMEBASE,
    Fit,
    fit_item,
    fit_position,
    fit_section,
    fit_take,
    lost_offset,
)  # fmt: skip
from stembridge.reaper.operations import TAG, Operation
from stembridge.reaper.playing import Way, find_needed, find_played, judge, trim
from stembridge.reaper.snapshot import Item, Snapshot, Track
from stembridge.reaper.stem_set import StemFile, StemSet
from stembridge.reaper.stem_tracks import plan_stem_tracks
from stembridge.reaper.tags import OriginalTag, StemTag, read_tag, write_tag

ITEM_VALUES_USED = (
    *TIMEBASE, *PLACE, *FADES,
    "D_VOL", "B_MUTE", "B_LOOPSRC", "B_ALLTAKESPLAY", "C_LOCK", "C_LANEPLAYS", "I_GROUPID", "I_CURTAKE",
)  # fmt: skip
TAKE_VALUES_USED = (*TAKE_SOUND, *TAKE_SPEED, "D_STARTOFFS")

FIXED_LANES = 2
HIDDEN_LANE = -1
_SAME_S = 1e-6
"""Two parts of one item play its source at the same time of the project to within this."""


class Ticket(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An item on its way to its stems: what it was when the action was run, and what was decided then.

    Parameters
    ----------
    baked : media file that REAPER has rendered of the item, where its own could not be sent
    window : seconds of the project to which the split is confined
    mutes_locked : the original is muted though it is locked; else its stems come muted
    is_approximate : effects go onto each stem, whose sum is then not the original's
    as_takes : the stems become takes of the item instead of items of their own
    """

    item: Item
    job: str
    baked: str = ""
    window: tuple[float, float] | None = None
    mutes_locked: bool = False
    is_approximate: bool = False
    as_takes: bool = False


@dataclass(frozen=True, slots=True)
class Placed:
    """Operations that place the stems, as one undo step of that name."""

    label: str
    operations: tuple[Operation, ...]


@dataclass(frozen=True, slots=True)
class Lacking:
    """The item and its parts play ``first_s`` to ``last_s`` now, and not all of that was separated."""

    first_s: float
    last_s: float


@dataclass(frozen=True, slots=True)
class Unplaceable:
    """The item is not what it was; ``is_gone`` where it is not there at all."""

    reason: str
    is_gone: bool = False


def place(
    ticket: Ticket, stems: StemSet, snapshot: Snapshot, looks: Looks, *, is_orphan: bool = False
) -> Placed | Lacking | Unplaceable:
    """Return what puts ``stems`` onto the ticket's item, wherever and whatever it is now.

    Parameters
    ----------
    snapshot : the project now, with the item and everything that plays the same file
    is_orphan : the item is gone, and its stems go where it was
    """
    parts = [_find_inside(ticket, ticket.item) or ticket.item] if is_orphan else find_parts(ticket, snapshot)
    if not parts:
        return Unplaceable("the item is gone", is_gone=True)
    parent = snapshot.find_track(parts[0].track)
    if parent is None:
        return Unplaceable("the item's track is gone", is_gone=True)
    heard = [part for part in parts if _find_inside(ticket, part) is not None]
    for part in heard or parts[:1]:
        unfit = _find_change(ticket, part)
        if unfit:
            return Unplaceable(unfit)
    if not heard:
        return Unplaceable("nothing is heard now of what was to be split")
    parts = heard
    lacking = _find_lack(ticket, parts, stems)
    if lacking is not None and ticket.baked:
        return Unplaceable("it is longer now than what was rendered of it: run the action again")
    if lacking is not None:
        return lacking
    label = f"Stembridge: split {ticket.item.name}"
    if ticket.as_takes:
        return _place_as_takes(ticket, stems, parts, looks, label)
    names = [file.stem for file in stems.files]
    tracks = plan_stem_tracks(snapshot, parent, names, looks, stems.residual_db)
    expectations = list(tracks.expectations)
    operations = list(tracks.operations)
    for number, part in enumerate(parts):
        if not is_orphan:
            expectations += expect_unchanged(part)
        operations += _place_part(ticket, stems, part, parent, tracks.track_of, f"{number}")
        if not is_orphan:
            operations += _silence(ticket, stems, part, f"{number}")
    return Placed(label, (*expectations, *operations))


def find_parts(ticket: Ticket, snapshot: Snapshot) -> list[Item]:
    """Return the ticket's item as it is now and, where it was cut, its other parts, in order of time.

    A part lies on the same track, where the item was, and plays the same file at the same time, or does so
    seen from where the item has been moved. A copy that lies over a part is none.
    """
    before = ticket.item
    found = [item for item in snapshot.items if item.guid == before.guid and item.take is not None]
    track = found[0].track if found else before.track
    moves = {0.0, *(_origin(item) - _origin(before) for item in found if item.active.source is not None)}
    for item in snapshot.items:
        if item.guid == before.guid or item.track != track:
            continue
        if any(_is_part(item, before, moved) for moved in moves) and not any(
            _is_copy(item, other) for other in found
        ):
            found.append(item)
    return sorted(found, key=lambda item: item.position)


def _is_copy(item: Item, other: Item) -> bool:
    """Tell whether ``item`` lies over ``other`` and plays the same at the same time, as no two parts do."""
    is_over = other.position < (item.position + item.end) / 2 < other.end
    return is_over and abs(_origin(item) - _origin(other)) < _SAME_S


def _is_part(item: Item, before: Item, moved: float) -> bool:
    if item.take is None or before.take is None or item.tag != before.tag:
        return False
    ours, theirs = before.take.source, item.take.source
    if ours is None or theirs is None or (ours.path, ours.section) != (theirs.path, theirs.section):
        return False
    middle = (item.position + item.end) / 2 - moved
    return before.position < middle < before.end and abs(_origin(item) - _origin(before) - moved) < _SAME_S


def _origin(item: Item) -> float:
    """Return the time of the project at which the take's source begins."""
    return item.position - item.active.values["D_STARTOFFS"] / item.active.values["D_PLAYRATE"]


def _find_change(ticket: Ticket, part: Item) -> str:
    """Return why the stems no longer stand for ``part``, or ''."""
    then, now = ticket.item.active, part.active
    if now.source is None or then.media.path != now.media.path:
        return "its active take plays another file now: run the action again"
    is_new = part.tag != ticket.item.tag and isinstance(read_tag(part.tag), OriginalTag)
    if is_new:
        return "other stems of it were placed meanwhile: remove them first"
    if ticket.baked:
        changed = [name for name in (*TAKE_SOUND, *TAKE_SPEED) if then.values[name] != now.values[name]]
        effects = (then.fx, then.envelopes, then.stretch_markers) != (
            now.fx,
            now.envelopes,
            now.stretch_markers,
        )
        if changed or effects or then.media.section != now.media.section:
            return "its take was changed after it had been rendered: run the action again"
        return ""
    verdict = judge(part)
    if verdict.way is Way.SKIPPED:
        return f"{verdict.reasons[0]}: nothing to place"
    if verdict.way is Way.BAKED and not ticket.is_approximate:
        return f"it has {', '.join(verdict.reasons)} now: run the action again"
    return ""


def _find_lack(ticket: Ticket, parts: Sequence[Item], stems: StemSet) -> Lacking | None:
    """Return what all parts together need, where that is more than there is."""
    insides = [inside for part in parts if (inside := _find_inside(ticket, part)) is not None]
    if ticket.baked:
        fit = find_fit(ticket, stems)
        starts = [fit_position(inside, fit, inside.active.values["D_STARTOFFS"]) for inside in insides]
        first_s = min(starts)
        last_s = max(start + inside.length for start, inside in zip(starts, insides, strict=True))
        # A rendering is a whole number of frames, and may end before the item by a part of one.
        is_covered = first_s >= -_SAME_S and last_s <= (stems.frames + 1) / stems.rate
    else:
        spans = [span for inside in insides if (span := find_needed(inside)) is not None]
        first_s, last_s = min(span[0] for span in spans), max(span[1] for span in spans)
        is_covered = stems.covers(first_s, last_s)
    return None if is_covered else Lacking(first_s, last_s)


def expect_unchanged(part: Item) -> list[Operation]:
    """Return what refuses an apply where the item is no longer what it was."""
    return [
        do.expect_item(part.guid, {name: part.values[name] for name in ITEM_VALUES_USED}),
        do.expect_take(part.active.guid, {name: part.active.values[name] for name in TAKE_VALUES_USED}),
    ]


def _place_part(
    ticket: Ticket, stems: StemSet, part: Item, parent: Track, track_of: dict[str, str], number: str
) -> Iterator[Operation]:
    """Yield what places all stems of one item; with a window, of the part inside, which is cut out."""
    fit = find_fit(ticket, stems)
    middle = _find_middle(ticket, part, number)
    if middle is not None:
        yield from middle.operations
    lane = part.values["C_LANEPLAYS"]
    is_muted = bool(part.values["B_MUTE"]) or lane == HIDDEN_LANE
    is_muted |= parent.values["I_FREEMODE"] == FIXED_LANES and lane == 0
    family = _family(stems, part)
    for file in stems.files:
        item = f"$item {number} {file.stem}"
        yield from add_stem(part, fit, file, item, track_of[file.stem], middle)
        yield do.set_item(item, "B_MUTE", float(is_muted or _keeps_playing(ticket, part)))
        if ticket.is_approximate:
            yield do.copy_effects(part.active.guid, item)
        yield do.set_item_text(item, TAG, form_tag(ticket, stems, family, file.stem))


def add_stem(
    part: Item, fit: Fit, file: StemFile, item: str, track: str, middle: Middle | None = None
) -> Iterator[Operation]:
    """Yield what makes a stem's item, under the name ``item``, that plays what ``part`` plays."""
    take = f"$take of {item[1:]}"
    yield do.add_item(item, track)
    yield do.add_take(take, item)
    yield do.set_file(take, file.path)
    lines = fit_section(part, fit)
    if lines:
        yield do.wrap_section(item, lines)
    yield from _set_take(part, fit, item, middle)
    yield from _set_item(part, fit, item, middle)
    yield do.set_take_text(item, "P_NAME", f"{part.name} - {file.stem}")
    if part.notes:
        yield do.set_item_text(item, "P_NOTES", part.notes)
    for at, name, color in part.active.markers:
        yield do.mark_take(item, fit_position(part, fit, at), name, color)


def _silence(ticket: Ticket, stems: StemSet, part: Item, number: str) -> Iterator[Operation]:
    """Yield what mutes the original, or the part of it for which the stems stand, and says so on it."""
    middle = _find_middle(ticket, part, number)
    original = middle.name if middle else part.guid
    if not _keeps_playing(ticket, part):
        yield do.set_item(original, "B_MUTE", 1)
    tag = OriginalTag(job=stems.job, family=_family(stems, part), was_muted=bool(part.values["B_MUTE"]))
    yield do.set_item_text(original, TAG, write_tag(tag))


def _keeps_playing(ticket: Ticket, part: Item) -> bool:
    """Tell whether the original is locked and the user did not want it muted: then its stems come muted."""
    return bool(int(part.values["C_LOCK"]) & 1) and not ticket.mutes_locked


@dataclass(frozen=True, slots=True)
class Middle:
    """The part of an item inside the window: what cuts it out, its name then, and what it will be."""

    name: str
    operations: tuple[Operation, ...]
    item: Item


def _find_middle(ticket: Ticket, part: Item, number: str) -> Middle | None:
    """Return the part of the item that the window covers, where that is not all of it."""
    inside = _find_inside(ticket, part)
    if inside is None or inside is part:
        return None
    name, operations = part.guid, []
    if inside.position > part.position:
        name = f"$middle {number}"
        operations.append(do.split_item(name, part.guid, inside.position))
    if inside.end < part.end - _SAME_S:
        operations.append(do.split_item(f"$right {number}", name, inside.end))
    return Middle(name, tuple(operations), inside)


def _find_inside(ticket: Ticket, part: Item) -> Item | None:
    """Return ``part`` as it is where the window has cut it, or None where nothing is heard of it there."""
    inside = part
    if ticket.window is not None and part.active.source is not None:
        moved = _origin(part) - _origin(ticket.item)
        start, end = max(ticket.window[0] + moved, part.position), min(ticket.window[1] + moved, part.end)
        start = part.position if start - part.position < _SAME_S else start
        end = part.end if part.end - end < _SAME_S else end
        if start >= end:
            return None
        if start > part.position or end < part.end:
            inside = trim(part, start, end)
    return inside if find_played(inside) else None


def _set_take(part: Item, fit: Fit, take: str, middle: Middle | None) -> Iterator[Operation]:
    """Yield what gives a stem's take its values; where it begins is read off ``middle``, if there is one."""
    inside = middle.item if middle else part
    for name, value in fit_take(inside, fit).items():
        if name == "D_STARTOFFS" and middle is not None and _only_shifts(part, fit):
            yield do.copy_take(middle.name, take, name, -lost_offset(part, fit))
        else:
            yield do.set_take(take, name, value)


def _set_item(part: Item, fit: Fit, item: str, middle: Middle | None) -> Iterator[Operation]:
    """Yield what gives a stem's item its values; place and fades are those of ``middle``, if there is one."""
    inside = middle.item if middle else part
    for name, value in fit_item(inside, fit).items():
        # REAPER may let the parts of a cut item overlap and fade: whatever it did holds for the stems too.
        if middle is not None and name in (*PLACE, *FADES) and _only_shifts(part, fit):
            yield do.copy_item(middle.name, item, name)
        else:
            yield do.set_item(item, name, value)


def _only_shifts(part: Item, fit: Fit) -> bool:
    """Tell whether a stem's start offset is the original's but for a constant: not after stretching."""
    return fit.rendered_from is None or part.active.values["D_PLAYRATE"] == 1


def find_fit(ticket: Ticket, stems: StemSet) -> Fit:
    """Return how the files of ``stems`` relate to what the ticket's item plays."""
    return Fit(
        before_s=stems.before_s,
        behind_s=stems.behind_s,
        length_s=stems.region.frames / stems.rate,
        is_whole=stems.is_whole,
        rendered_from=ticket.item.active.values["D_STARTOFFS"] if ticket.baked else None,
    )


def _family(stems: StemSet, part: Item) -> str:
    """Return what an original and its stems have in common, wherever they are copied to."""
    return hashlib.sha256(f"{stems.job} {part.guid}".encode()).hexdigest()[:12]


def form_tag(ticket: Ticket, stems: StemSet, family: str, stem: str) -> str:
    """Return the tag of one stem's item, as text."""
    return write_tag(
        StemTag(
            stem=stem,
            model=stems.model,
            job=stems.job,
            family=family,
            source=stems.source_sha256,
            folder=stems.folder,
            fit=find_fit(ticket, stems),
            is_approximate=ticket.is_approximate,
        )
    )


def _place_as_takes(
    ticket: Ticket, stems: StemSet, parts: Sequence[Item], looks: Looks, label: str
) -> Placed | Unplaceable:
    """Return what adds the stems as takes; the take that plays stays the same, and no residual is added."""
    expectations: list[Operation] = []
    operations: list[Operation] = []
    fit = find_fit(ticket, stems)
    for number, part in enumerate(parts):
        if fit_section(part, fit):
            return Unplaceable("a section or a reversed source cannot become takes: choose tracks")
        expectations += expect_unchanged(part)
        middle = _find_middle(ticket, part, f"{number}")
        operations += middle.operations if middle else ()
        item = middle.name if middle else part.guid
        for file in stems.files:
            if file.stem == RESIDUAL:
                continue
            take = f"$take {number} {file.stem}"
            operations += [do.add_take(take, item), do.set_item(item, "I_CURTAKE", part.active.index)]
            operations.append(do.set_file(take, file.path))
            operations += _set_take(part, fit, take, middle)
            operations.append(do.set_take_text(take, "P_NAME", f"{part.name} - {file.stem}"))
            operations.append(do.color_take(take, looks.of(file.stem).color))
    return Placed(label, (*expectations, *operations))
