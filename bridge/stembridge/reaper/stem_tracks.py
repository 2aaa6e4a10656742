"""The tracks on which the stems of a track's items lie: children of that track, so that its effects, volume
and sends go on working on their sum."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from stembridge.looks import Looks
from stembridge.manifest import RESIDUAL
from stembridge.reaper import operations as do
from stembridge.reaper.operations import TAG, Operation
from stembridge.reaper.snapshot import Snapshot, Track
from stembridge.reaper.tags import TrackTag, read_tag, write_tag

RESIDUAL_HEIGHT = 24
"""Pixels: the residual is there to be complete, not to be looked at."""
_RESIDUAL_NAME = re.compile(r"Residual(?: (-?\d+) dB)?")


@dataclass(frozen=True, slots=True)
class StemTracks:
    """Where each stem goes, by GUID or by the name of a track to be made, and what makes the missing ones."""

    track_of: dict[str, str]
    expectations: list[Operation]
    operations: list[Operation]


def find_children(snapshot: Snapshot, parent: Track) -> list[Track]:
    """Return the tracks inside the folder that ``parent`` opens, in order; none where it opens none."""
    if parent.depth < 1:
        return []
    found = []
    level = parent.depth
    for track in snapshot.tracks[snapshot.tracks.index(parent) + 1 :]:
        found.append(track)
        level += track.depth
        if level <= 0:
            break
    return found


def find_stem_tracks(snapshot: Snapshot, parent: Track) -> dict[str, Track]:
    """Return the children of ``parent`` that we have made for its stems, by stem."""
    found: dict[str, Track] = {}
    for track in find_children(snapshot, parent):
        tag = read_tag(track.tag)
        if isinstance(tag, TrackTag) and tag.of == parent.guid:
            found.setdefault(tag.stem, track)
    return found


def plan_stem_tracks(
    snapshot: Snapshot,
    parent: Track,
    stems: Sequence[str],
    looks: Looks,
    residual_db: float | None,
    *,
    prefix: str = "$track",
    are_returns: bool = False,
) -> StemTracks:
    """Return the stem tracks of ``parent``, those that exist and those that have to be made.

    New ones stand behind ours that exist, the residual last. Every other track keeps its parent: the child
    that closed the folder hands its closing on to the one that is put behind it.

    Parameters
    ----------
    prefix : what the names of new tracks begin with, until they have GUIDs
    are_returns : the stems are what a remix adds
    """
    existing = find_stem_tracks(snapshot, parent)
    track_of = {stem: existing[stem].guid for stem in stems if stem in existing}
    missing = [stem for stem in stems if stem not in existing]
    expectations = [do.expect_track(parent.guid, _place(parent))]
    operations: list[Operation] = []
    if residual_db is not None and RESIDUAL in track_of:
        operations += _rename_residual(existing[RESIDUAL], looks, residual_db)
    if not missing:
        return StemTracks(track_of, expectations, operations)
    anchor = _find_anchor(snapshot, parent, existing)
    if anchor is not parent:
        expectations.append(do.expect_track(anchor.guid, _place(anchor)))
    names = {stem: f"{prefix} {stem}" for stem in missing}
    for number, stem in enumerate(missing):
        operations.append(do.insert_track(names[stem], anchor.guid, number))
        tag = TrackTag(stem, parent.guid, are_returns)
        operations += _dress(names[stem], tag, parent, looks, residual_db)
    last = names[missing[-1]]
    if anchor is parent and parent.depth < 1:
        operations.append(do.set_track(parent.guid, "I_FOLDERDEPTH", 1))
        operations.append(do.set_track(last, "I_FOLDERDEPTH", parent.depth - 1))
    elif (level := _level_behind(snapshot, parent, anchor)) < 1:
        operations.append(do.set_track(anchor.guid, "I_FOLDERDEPTH", anchor.depth + 1 - level))
        operations.append(do.set_track(last, "I_FOLDERDEPTH", level - 1))
    return StemTracks(track_of | names, expectations, operations)


def _find_anchor(snapshot: Snapshot, parent: Track, existing: dict[str, Track]) -> Track:
    """Return the track behind which the missing ones are inserted.

    A stem track that the user has moved into a folder of the folder says nothing: ours go beside no other.
    """
    ours = [
        track
        for track in find_children(snapshot, parent)
        if track in existing.values() and _level_before(snapshot, parent, track) == 1
    ]
    residual = existing.get(RESIDUAL)
    if residual is not None and residual in ours:
        return snapshot.tracks[snapshot.tracks.index(residual) - 1]
    if not ours:
        return parent
    return (find_children(snapshot, ours[-1]) or ours)[-1]


def _level_before(snapshot: Snapshot, parent: Track, track: Track) -> int:
    """Return how deep ``track`` lies: 1 in the folder of ``parent`` itself, more in a folder of that."""
    return _level_behind(snapshot, parent, snapshot.tracks[snapshot.tracks.index(track) - 1])


def _level_behind(snapshot: Snapshot, parent: Track, anchor: Track) -> int:
    """Return how deep the track behind ``anchor`` lies: 1 in the folder of ``parent``, 0 beside it."""
    first, last = snapshot.tracks.index(parent), snapshot.tracks.index(anchor)
    return sum(track.depth for track in snapshot.tracks[first : last + 1])


def _place(track: Track) -> dict[str, float]:
    return {name: track.values[name] for name in ("IP_TRACKNUMBER", "I_FOLDERDEPTH", "I_NCHAN")}


def _dress(
    name: str, tag: TrackTag, parent: Track, looks: Looks, residual_db: float | None
) -> list[Operation]:
    look = looks.of(tag.stem, residual_db)
    operations = [
        do.set_track_text(name, "P_NAME", look.name),
        do.color_track(name, look.color),
        do.set_track_text(name, TAG, write_tag(tag)),
        do.set_track(name, "I_NCHAN", parent.values["I_NCHAN"]),
        do.set_track(name, "C_BEATATTACHMODE", parent.values["C_BEATATTACHMODE"]),
        # A child does not take over by how much its parent plays its items early or late.
        do.set_track(name, "D_PLAY_OFFSET", parent.values["D_PLAY_OFFSET"]),
        do.set_track(name, "I_PLAY_OFFSET_FLAG", parent.values["I_PLAY_OFFSET_FLAG"]),
        do.set_track(name, "D_VOL", 1),
        do.set_track(name, "D_PAN", 0),
        # A project's pan law other than 0 dB would attenuate a child once more.
        do.set_track(name, "D_PANLAW", 1),
        do.set_track(name, "B_PHASE", 0),
        do.set_track(name, "B_MAINSEND", 1),
    ]
    if tag.stem == RESIDUAL:
        operations.append(do.set_track(name, "I_HEIGHTOVERRIDE", RESIDUAL_HEIGHT))
    return operations


def _rename_residual(track: Track, looks: Looks, residual_db: float) -> list[Operation]:
    """Name the residual of several items by its loudest; a name of the user's own stays."""
    ours = _RESIDUAL_NAME.fullmatch(track.name)
    if ours is None or residual_db <= float(ours[1] or "-inf"):
        return []
    look = looks.of(RESIDUAL, residual_db)
    return [do.set_track_text(track.guid, "P_NAME", look.name), do.color_track(track.guid, look.color)]
