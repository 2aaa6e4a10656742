"""Another model onto the stems that are there: each gets a new take, its item, track and effects stay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from stembridge import catalog
from stembridge.errors import RequestError, StembridgeError
from stembridge.looks import Looks
from stembridge.manifest import RESIDUAL, read_manifest
from stembridge.reaper import operations as do
from stembridge.reaper.families import (
    Family,
    Stem,
    StemSets,
    choose_families,
    find_families,
)
from stembridge.reaper.fitting import Fit, fit_item, fit_section, fit_take
from stembridge.reaper.operations import TAG, Operation
from stembridge.reaper.placing import (
    TAKE_VALUES_USED,
    Lacking,
    Placed,
    Ticket,
    Unplaceable,
    add_stem,
    expect_unchanged,
    find_fit,
    find_parts,
    form_tag,
    place,
)
from stembridge.reaper.playing import Way, find_form, judge
from stembridge.reaper.requests import Options, choose_model
from stembridge.reaper.snapshot import Item, Snapshot, read_snapshot
from stembridge.reaper.stem_set import StemFile, StemSet
from stembridge.reaper.stem_tracks import find_stem_tracks, plan_stem_tracks
from stembridge.reaper.tags import OriginalTag, write_tag
from stembridge.reaper.threads.batch import Batch, with_entry
from stembridge.reaper.threads.form import CAPTIONS, read_fields, spell_field
from stembridge.reaper.threads.landing import carry_out, find_stems, settle_trouble
from stembridge.reaper.threads.preparing import prepare
from stembridge.reaper.turn import Start, Step, Turn

FIELDS = ("quality", "model")
TITLE = "Stembridge: split again"
_COMPLEMENT = "no_"
_SECTION = "it plays a section or backwards, and such a take cannot be added to its stems: remove the stems"


NEXT_MODELS = ("htdemucs_ft", "htdemucs_6s", "htdemucs")
"""What is proposed in place of a model whose stems are there; after htdemucs first the one of six stems."""


class Choice(msgspec.Struct, frozen=True, omit_defaults=True):
    """What stands in the dialog's fields."""

    values: tuple[str, ...] = ()


def start(turn: Turn) -> None:
    """Begin with what is selected, or with all."""
    turn.collect("tagged", "resplit.collected", Choice())


def take_collected(turn: Turn, _choice: Choice, result: Any) -> None:
    """Ask for the model, where there are stems that can get other ones."""
    snapshot = read_snapshot(result)
    families = choose_families(turn, snapshot)
    if not families:
        return
    reasons = [_find_refusal(turn, family) for family in families]
    if all(reasons):
        _tell_refused(turn, families, reasons)
        return
    present = {stem.tag.model for family in families for stem in family.stems}
    model = _propose_model(turn, present)
    _ask(turn, Choice((spell_field(turn.preferences, "quality"), model)), TITLE)


def _propose_model(turn: Turn, present: set[str]) -> str:
    """Return what stands in the field of the model: the preferred one, unless its stems are there."""
    if choose_model(Options(), turn.preferences, turn.house.settings) not in present:
        return spell_field(turn.preferences, "model")
    names = (
        sorted(NEXT_MODELS, key=lambda name: name != "htdemucs_6s") if "htdemucs" in present else NEXT_MODELS
    )
    return next((name for name in names if name not in present), "")


def _ask(turn: Turn, choice: Choice, title: str) -> None:
    captions = [CAPTIONS[name] for name in FIELDS]
    turn.ask(title, "", "resplit.typed", choice, kind="fields", captions=captions, values=list(choice.values))


def take_values(turn: Turn, choice: Choice, result: Any) -> None:
    """Go on with what was typed; what is wrong there is shown once more."""
    if result.get("answer") != "yes":
        return
    choice = Choice(tuple(str(value) for value in result.get("values", [])))
    try:
        _read(turn, choice)
    except StembridgeError as error:
        _ask(turn, choice, str(error))
        return
    turn.collect("tagged", "resplit.chosen", choice)


def _read(turn: Turn, choice: Choice) -> Options:
    """Return what the fields say: the model always by its name, all of its stems.

    Raises
    ------
    RequestError
        One of them says what cannot be.
    """
    plain = replace(turn.preferences, model="", stems=(), two_stems="")
    texts = dict(zip(FIELDS, choice.values, strict=True))
    changed = read_fields(plain, texts, turn.house.settings)
    model = choose_model(Options(), changed, turn.house.settings)
    return Options(quality=changed.quality, model=model, stems=(), output="tracks")


def take_chosen(turn: Turn, choice: Choice, result: Any) -> None:
    """Have the originals split; those of which one stem and its complement are there get these two again."""
    snapshot = read_snapshot(result)
    families = choose_families(turn, snapshot)
    reasons = [_find_refusal(turn, family) for family in families]
    _tell_refused(turn, families, reasons)
    options = _read(turn, choice)
    groups: dict[str, list[Family]] = {}
    for family, reason in zip(families, reasons, strict=True):
        if not reason:
            groups.setdefault(_find_single(family), []).append(family)
    for single, members in groups.items():
        try:
            catalog.check_stems(catalog.find_model(options.model), [single] if single else [])
        except RequestError as error:
            _tell_refused(turn, members, [str(error)] * len(members))
            continue
        asked = msgspec.structs.replace(options, two_stems=single or None)
        prepare(turn, _form_batch(turn, asked, members, snapshot))


def _is_kept(turn: Turn, original: Item) -> bool:
    """Tell whether what is on an original's take goes onto each of its stems."""
    verdict = judge(original)
    return turn.preferences.effects == "keep" and verdict.way is Way.BAKED and verdict.is_keepable


def _find_refusal(turn: Turn, family: Family) -> str:
    """Return why the stems of a family cannot get another take, or ''."""
    original = family.original
    if original is None:
        return "its original is gone"
    if not family.stems:
        return "its stems are gone: split it"
    if family.is_locked:
        return "it or one of its stems is locked"
    verdict = judge(original)
    if verdict.way is Way.SKIPPED:
        return verdict.reasons[0]
    if verdict.way is Way.BAKED and turn.preferences.effects == "skip":
        return f"it has {', '.join(verdict.reasons)}, and the settings skip such items"
    if find_form(original) is not None and verdict.way is not Way.BAKED:
        return _SECTION
    return ""


def _tell_refused(turn: Turn, families: Sequence[Family], reasons: Sequence[str]) -> None:
    for family, reason in zip(families, reasons, strict=True):
        if reason:
            turn.tell(f"{family.name} was skipped: {reason}", is_error=True)


def _find_single(family: Family) -> str:
    """Return the stem of which a family has the complement, or ''."""
    names = {stem.tag.stem for stem in family.stems}
    return next((name for name in sorted(names) if _COMPLEMENT + name in names), "")


def _form_batch(turn: Turn, options: Options, families: Sequence[Family], snapshot: Snapshot) -> Batch:
    sets = StemSets()
    items = []
    baked = {}
    approximate = []
    for family in families:
        original = family.original
        assert original is not None
        items.append(original)
        rendering = _find_rendering(family, original, sets)
        if rendering:
            baked[original.guid] = rendering
        elif _is_kept(turn, original):
            approximate.append(original.guid)
    return Batch(
        options=options,
        placer="resplit.ready",
        media_dir=snapshot.project.media_dir,
        items=tuple(items),
        windows=(None,) * len(items),
        approximate=tuple(approximate),
        baked=baked,
    )


def _find_rendering(family: Family, original: Item, sets: StemSets) -> str:
    """Return the file that REAPER has rendered for the stems that are there, or ''.

    It is what the stems are of. Where it is not here, or is of another stretch, REAPER renders the original
    once more.
    """
    stem = family.stems[0]
    known = sets.find(stem)
    if known is None or stem.tag.fit.rendered_from != original.active.values["D_STARTOFFS"]:
        return ""
    path = read_manifest(Path(known.folder)).source.path
    return path if Path(path).is_file() else ""


def take_ready(turn: Turn, batch: Batch, result: Any) -> None:
    """Have the new stems put onto those of the current entry, as they are now."""
    snapshot = read_snapshot(result)
    entry = batch.entries[batch.current]
    stems = find_stems(turn, batch)
    if stems is None:
        return
    plan = plan_takes(entry.ticket, stems, snapshot, turn.preferences.looks)
    if isinstance(plan, Placed):
        text = "; ".join(_find_remarks(entry.ticket, stems, snapshot))
        entry = msgspec.structs.replace(entry, text=text)
        batch = with_entry(batch, entry, current=batch.current)
    carry_out(turn, batch, plan, stems, snapshot)


def _find_remarks(ticket: Ticket, stems: StemSet, snapshot: Snapshot) -> Iterator[str]:
    """Yield what a user should know of the stems that were there."""
    names = {file.stem for file in stems.files}
    there = [stem for _, family in _find_targets(ticket, snapshot) for stem in family.stems]
    lost = dict.fromkeys(stem.tag.stem for stem in there if stem.tag.stem not in names)
    if lost:
        yield f"{', '.join(lost)}: {stems.model} has no such stem, so what is there was muted"
    takes = [(stem.tag.stem, stem.item.take) for stem in there if stem.tag.stem in names]
    worked_on = dict.fromkeys(
        name for name, take in takes if take and (take.fx or take.envelopes or take.stretch_markers)
    )
    if worked_on:
        yield f"{', '.join(worked_on)}: effects, envelopes and stretch markers stay on the take before"


def _find_targets(ticket: Ticket, snapshot: Snapshot) -> list[tuple[Item, Family]]:
    """Return the parts of the ticket's item, each with its family."""
    families = {family.original.guid: family for family in find_families(snapshot) if family.original}
    return [(part, families[part.guid]) for part in find_parts(ticket, snapshot) if part.guid in families]


def plan_takes(
    ticket: Ticket, stems: StemSet, snapshot: Snapshot, looks: Looks
) -> Placed | Lacking | Unplaceable:
    """Return what puts ``stems`` onto the stems of the ticket's item: a new take each, and what is new.

    Whether they still stand for the item is what it is for stems that are placed for the first time.
    """
    match place(ticket, stems, snapshot, looks):
        case Unplaceable(reason):
            return Unplaceable(reason)
        case Lacking() as lacking:
            return lacking
    targets = [target for target in _find_targets(ticket, snapshot) if target[1].stems]
    parent = snapshot.find_track(targets[0][0].track) if targets else None
    if parent is None:
        return Unplaceable("the stems that were there are gone: split it")
    if all(family.tag is not None and family.tag.job == stems.job for _, family in targets):
        return Unplaceable(f"its stems are {stems.model}'s in this quality already")
    fit = find_fit(ticket, stems)
    if any(fit_section(part, fit) for part, _ in targets):
        return Unplaceable(_SECTION)
    present = [{stem.tag.stem for stem in (*family.stems, *family.leftovers)} for _, family in targets]
    new = [file.stem for file in stems.files if any(file.stem not in names for names in present)]
    if RESIDUAL not in new and RESIDUAL in find_stem_tracks(snapshot, parent):
        # Its track's name has its level.
        new.append(RESIDUAL)
    tracks = plan_stem_tracks(snapshot, parent, new, looks, stems.residual_db)
    operations = [*tracks.expectations, *tracks.operations]
    for number, (part, family) in enumerate(targets):
        names = {stem.tag.stem for stem in (*family.stems, *family.leftovers)}
        is_muted = all(stem.is_muted for stem in family.stems)
        operations += expect_unchanged(part)
        for file in stems.files:
            if file.stem not in names:
                track = tracks.track_of[file.stem]
                item = f"$item {number} {file.stem}"
                operations += add_stem(part, fit, file, item, track)
                operations.append(do.set_item(item, "B_MUTE", float(is_muted)))
                tag = form_tag(ticket, stems, family.id, file.stem)
                operations.append(do.set_item_text(item, TAG, tag))
        for place_of, stem in enumerate((*family.stems, *family.leftovers)):
            found = next((file for file in stems.files if file.stem == stem.tag.stem), None)
            if found is None or stem.item.take is None:
                operations.append(do.set_item(stem.item.guid, "B_MUTE", 1))
                continue
            operations += _add_take(part, stem, found, fit, f"$take {number} {place_of}")
            if stem in family.leftovers:
                operations.append(do.set_item(stem.item.guid, "B_MUTE", float(is_muted)))
            tag = form_tag(ticket, stems, family.id, stem.tag.stem)
            operations.append(do.set_item_text(stem.item.guid, TAG, tag))
        assert family.tag is not None
        known = OriginalTag(job=stems.job, family=family.id, was_muted=family.tag.was_muted)
        operations.append(do.set_item_text(part.guid, TAG, write_tag(known)))
    return Placed(f"Stembridge: split {ticket.item.name} with {stems.model}", tuple(operations))


def _add_take(part: Item, stem: Stem, file: StemFile, fit: Fit, name: str) -> Iterator[Operation]:
    """Yield what gives a stem's item its new take. What the user has changed of the one before stays so."""
    before = stem.item.active
    item = stem.item.guid
    old, new = fit_take(part, stem.tag.fit), fit_take(part, fit)
    shift = new["D_STARTOFFS"] - old["D_STARTOFFS"]
    yield do.expect_item(item, {"I_CURTAKE": stem.item.values["I_CURTAKE"]})
    yield do.expect_take(before.guid, {parm: before.values[parm] for parm in TAKE_VALUES_USED})
    yield do.add_take(name, item)
    yield do.set_file(name, file.path)
    for parm, value in new.items():
        # A value that the old take had not got from its original at all was REAPER's own.
        is_own = parm in old and before.values[parm] != old[parm]
        kept = before.values[parm] + (shift if parm == "D_STARTOFFS" else 0.0)
        yield do.set_take(name, parm, kept if is_own else value)
    yield do.set_take(name, "I_CUSTOMCOLOR", before.values["I_CUSTOMCOLOR"])
    yield do.set_take_text(name, "P_NAME", before.name)
    for at, text, color in before.markers:
        yield do.mark_take(name, at + shift, text, color)
    loop = fit_item(part, fit)["B_LOOPSRC"]
    if fit_item(part, stem.tag.fit)["B_LOOPSRC"] != loop:
        yield do.set_item(item, "B_LOOPSRC", loop)
    yield do.activate(name)


STARTS: dict[str, Start] = {"resplit": start}
STEPS: dict[str, Step] = {
    "resplit.collected": (Choice, take_collected),
    "resplit.typed": (Choice, take_values),
    "resplit.chosen": (Choice, take_chosen),
    "resplit.ready": (Batch, settle_trouble(take_ready)),
}
