"""Remixes on the stems that are there: which take of each stem plays, and what a remix adds to them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from stembridge import stem_tag
from stembridge.errors import SourceError
from stembridge.looks import Looks
from stembridge.manifest import read_manifest
from stembridge.presets import Level
from stembridge.reaper import operations as do
from stembridge.reaper.families import Family, Stem, StemSets, find_job
from stembridge.reaper.fitting import lost_offset
from stembridge.reaper.operations import TAG, Operation
from stembridge.reaper.placing import TAKE_VALUES_USED, add_stem, expect_unchanged
from stembridge.reaper.snapshot import Snapshot, Track
from stembridge.reaper.stem_set import StemFile
from stembridge.reaper.stem_tracks import plan_stem_tracks
from stembridge.reaper.tags import StemTag, TrackTag, read_tag, write_tag


@dataclass(frozen=True, slots=True)
class RemixSet:
    """What a remix has made of one set of stems.

    Parameters
    ----------
    preset : name by which its takes are told apart
    files : path of each stem that is heard, in the order of the result
    untouched : those that are what the set has
    split : names of the set's own stems; what else is in ``files`` the remix adds
    """

    job: str
    preset: str
    files: Mapping[str, str]
    untouched: frozenset[str]
    split: tuple[str, ...]

    @property
    def added(self) -> tuple[str, ...]:
        """Returns of sends, and what a master chain adds."""
        return tuple(name for name in self.files if name not in self.split)

    @property
    def muted(self) -> frozenset[str]:
        return frozenset(name for name in self.split if name not in self.files)


def read_remix(folder: str, preset: str, split: Sequence[str]) -> RemixSet:
    """Return the remix in a result folder, made of a set with the stems ``split``.

    Raises
    ------
    SourceError
        There is no remix with its stems in that folder.
    """
    document = read_manifest(Path(folder))
    if document.remix is None or document.mixture is None:
        raise SourceError(f"{folder!r} is no remix with its stems", "run the action again")
    return RemixSet(
        document.job,
        preset,
        {entry.name: str(Path(folder) / entry.file) for entry in document.stems},
        frozenset(document.remix.untouched),
        tuple(split),
    )


@dataclass(frozen=True, slots=True)
class Group:
    """The stem tracks of one track's items, by stem; ``returns`` are for what remixes add."""

    stems: dict[str, Track] = field(default_factory=dict)
    returns: dict[str, Track] = field(default_factory=dict)

    @property
    def guids(self) -> set[str]:
        return {track.guid for track in (*self.stems.values(), *self.returns.values())}


def find_groups(snapshot: Snapshot) -> dict[str, Group]:
    """Return the stem tracks by the GUID of the track whose items they are of."""
    groups: dict[str, Group] = {}
    for track in snapshot.tracks:
        tag = read_tag(track.tag)
        if isinstance(tag, TrackTag):
            group = groups.setdefault(tag.of, Group())
            (group.returns if tag.is_return else group.stems).setdefault(tag.stem, track)
    return groups


def find_members(group: Group, families: Sequence[Family]) -> list[Family]:
    """Return the families of which a stem lies on one of the group's tracks."""
    guids = group.guids
    return [
        family
        for family in families
        if any(stem.item.track in guids for stem in (*family.stems, *family.leftovers))
    ]


def find_render_refusal(family: Family, sets: StemSets) -> str:
    """Return why the stems of a family cannot get takes with effects, or ''."""
    if family.original is None:
        return "its original is gone"
    if not family.stems:
        return "its stems are gone: split it"
    if family.is_locked:
        return "it or one of its stems is locked"
    if sets.find(family.stems[0]) is None:
        return f"its files are not in {family.stems[0].tag.folder} any more: split it again"
    for stem in family.stems:
        source = stem.item.take.source if stem.item.take is not None else None
        if source is not None and source.section is not None:
            return "it plays a section or backwards, and such a take cannot be added to its stems"
        if not stem.tag.is_return and not find_job(stem, sets):
            return f"the active take of {stem.tag.stem} plays another file: choose that of the stem"
    return ""


@dataclass(slots=True)
class RemixPlan:
    """What sets remixes, in one undo step.

    Parameters
    ----------
    chosen : path of the file that an item's take must play which was chosen by its number, by the item's GUID
    remarks : what a user should know
    """

    expectations: list[Operation] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    chosen: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def plan_tracks(
    plan: RemixPlan,
    snapshot: Snapshot,
    parent: str,
    group: Group,
    levels: Mapping[str, Level],
    added: Sequence[str],
    looks: Looks,
) -> dict[str, str]:
    """Add what sets the faders and makes what tracks are missing; return those of ``added``, by stem."""
    for stem, track in group.stems.items():
        plan.operations.append(do.set_track(track.guid, "D_VOL", levels[stem].gain))
        plan.operations.append(do.set_track(track.guid, "B_MUTE", float(levels[stem].is_muted)))
    for track in group.returns.values():
        plan.operations.append(do.set_track(track.guid, "D_VOL", 1))
        plan.operations.append(do.set_track(track.guid, "B_MUTE", 0))
    track_of = {stem: track.guid for stem, track in group.returns.items()}
    missing = [stem for stem in added if stem not in track_of]
    above = snapshot.find_track(parent)
    if missing and above is not None:
        prefix = f"$track {above.values['IP_TRACKNUMBER']:.0f}"
        tracks = plan_stem_tracks(snapshot, above, missing, looks, None, prefix=prefix, are_returns=True)
        plan.expectations += tracks.expectations
        plan.operations += tracks.operations
        track_of |= tracks.track_of
    return track_of


def plan_family(
    plan: RemixPlan,
    family: Family,
    remix: RemixSet | None,
    track_of: Mapping[str, str],
    sets: StemSets,
    number: int,
) -> None:
    """Add what has a family play ``remix``, or the dry takes where that is None.

    Parameters
    ----------
    track_of : track of each stem that the remix adds
    number : tells the new things of this family from those of others
    """
    added = remix.added if remix is not None else ()
    returns = (stem for stem in family.leftovers if stem.tag.is_return)
    stems = [stem for stem in (*family.stems, *returns) if stem.item.take is not None]
    is_muted = all(stem.is_muted for stem in family.stems)
    wet: dict[int, tuple[str, str]] = {}
    for place, stem in enumerate(stems):
        name = stem.tag.stem
        if stem.tag.is_return and name not in added:
            plan.operations += _rest_return(stem)
        elif remix is not None and name in remix.files and name not in remix.untouched:
            wet[place] = remix.job, remix.files[name]
        elif stem.tag.takes and not stem.tag.is_return:
            _choose_dry(plan, family, stem, sets, f"$take {number} {place}")
    if remix is None:
        return
    for place, (job, path) in wet.items():
        stem = stems[place]
        fit = family.stems[0].tag.fit
        tag = msgspec.structs.replace(stem.tag, job=family.stems[0].tag.job, fit=fit)
        made = _Made(job, path, remix.preset)
        _choose_take(plan, family, stem, tag, made, sets, f"$take {number} {place}")
        if stem.tag.is_return:
            plan.operations.append(do.set_item(stem.item.guid, "B_MUTE", float(is_muted)))
    present = {stem.tag.stem for stem in stems}
    for name in remix.files:
        if name in remix.split and name not in present:
            plan.remarks.append(f"{family.name}: {name}: its item is gone, so the remix lacks it")
        elif name in added and name not in present:
            _add_return(plan, family, remix, name, track_of, is_muted=is_muted, number=number)


def _rest_return(stem: Stem) -> Iterator[Operation]:
    """Yield what takes a return out of its family until a remix has it again."""
    yield do.set_item(stem.item.guid, "B_MUTE", 1)
    yield do.set_item_text(stem.item.guid, TAG, write_tag(msgspec.structs.replace(stem.tag, job="")))


def _choose_dry(plan: RemixPlan, family: Family, stem: Stem, sets: StemSets, name: str) -> None:
    """Add what has a stem play what the split has made."""
    known = sets.find(stem)
    path = next((file.path for file in known.files if file.stem == stem.tag.stem), "") if known else ""
    if find_job(stem, sets) == stem.tag.job:
        return
    if not path:
        plan.remarks.append(f"{family.name}: {stem.tag.stem}: its dry file is gone, its take stays")
        return
    _choose_take(plan, family, stem, stem.tag, _Made(stem.tag.job, path), sets, name)


@dataclass(frozen=True, slots=True)
class _Made:
    """A file, the job that has made it, and the preset where that was a remix."""

    job: str
    path: str
    preset: str = ""


def _choose_take(
    plan: RemixPlan, family: Family, stem: Stem, tag: StemTag, made: _Made, sets: StemSets, name: str
) -> None:
    """Add what has a stem's item play a file, by a take that it has or by a new one like its active one.

    Parameters
    ----------
    tag : the stem's new tag; its takes are added here
    name : of the take, if it is new
    """
    item = stem.item
    active = item.active
    playing = find_job(stem, sets)
    # A user may delete, add and sort takes: the numbers count as long as nothing speaks against them.
    is_as_left = (
        item.takes == stem.tag.take_count and stem.tag.takes.get(playing, active.index) == active.index
    )
    known = dict(stem.tag.takes) if is_as_left else {}
    if playing:
        known[playing] = active.index
    count = item.takes
    plan.expectations.append(do.expect_item(item.guid, {"I_CURTAKE": item.values["I_CURTAKE"]}))
    plan.expectations.append(
        do.expect_take(active.guid, {parm: active.values[parm] for parm in TAKE_VALUES_USED})
    )
    if made.job not in known:
        known[made.job] = count
        count += 1
        shift = 0.0
        if tag.fit != stem.tag.fit:
            assert family.original is not None
            shift = lost_offset(family.original, stem.tag.fit) - lost_offset(family.original, tag.fit)
        plan.operations += _add_take(stem, made, shift, name)
        if not stem.tag.is_approximate and (active.fx or active.envelopes or active.stretch_markers):
            lost = "effects, envelopes and stretch markers stay on the take before"
            plan.remarks.append(f"{family.name}: {stem.tag.stem}: {lost}")
    elif known[made.job] != active.index:
        plan.operations.append(do.set_item(item.guid, "I_CURTAKE", known[made.job]))
        plan.operations.append(do.read_file(item.guid, item.guid))
        plan.chosen[item.guid] = made.path
    now = msgspec.structs.replace(tag, takes=known, take_count=count)
    plan.operations.append(do.set_item_text(item.guid, TAG, write_tag(now)))


def _add_take(stem: Stem, made: _Made, shift: float, name: str) -> Iterator[Operation]:
    """Yield what gives a stem's item a take like its active one that plays ``made``."""
    item, active = stem.item.guid, stem.item.active
    yield do.add_take(name, item)
    yield do.set_file(name, made.path)
    for parm in TAKE_VALUES_USED:
        yield do.set_take(name, parm, active.values[parm] + (shift if parm == "D_STARTOFFS" else 0.0))
    yield do.set_take(name, "I_CUSTOMCOLOR", active.values["I_CUSTOMCOLOR"])
    yield do.set_take_text(name, "P_NAME", _name_take(active.name, stem.tag.stem, made.preset))
    for at, text, color in active.markers:
        yield do.mark_take(name, at + shift, text, color)
    if stem.tag.is_approximate:
        yield do.copy_effects(active.guid, name)
    yield do.activate(name)


def plays_file(path: str, wanted: str) -> bool:
    """Tell whether ``path`` is the file ``wanted``, or a copy of it in another place."""
    if os.path.normpath(path) == os.path.normpath(wanted):
        return True
    try:
        said = stem_tag.read_tag(Path(path))
        return said is not None and said == stem_tag.read_tag(Path(wanted))
    except OSError:
        return False


def _name_take(before: str, stem: str, preset: str) -> str:
    """Return a take's name: that of the one before, with the preset in place of an earlier one."""
    head, found, _ = before.rpartition(f" - {stem} (")
    plain = f"{head} - {stem}" if found and before.endswith(")") else before
    return f"{plain} ({preset})" if preset else plain


def _add_return(
    plan: RemixPlan,
    family: Family,
    remix: RemixSet,
    name: str,
    track_of: Mapping[str, str],
    *,
    is_muted: bool,
    number: int,
) -> None:
    """Add a new item for what the remix adds, as if it were one of the stems."""
    original, model = family.original, family.stems[0].tag
    assert original is not None
    if name not in track_of:
        plan.remarks.append(
            f"{family.name}: {name}: the track of its original is gone, so the remix lacks it"
        )
        return
    item = f"$item {number} {name}"
    plan.expectations += expect_unchanged(original)
    plan.operations += add_stem(original, model.fit, StemFile(name, remix.files[name]), item, track_of[name])
    plan.operations.append(do.set_item(item, "B_MUTE", float(is_muted)))
    if model.is_approximate:
        plan.operations.append(do.copy_effects(original.active.guid, item))
    tag = msgspec.structs.replace(model, stem=name, is_return=True, takes={remix.job: 0}, take_count=1)
    plan.operations.append(do.set_item_text(item, TAG, write_tag(tag)))
