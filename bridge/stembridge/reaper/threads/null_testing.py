"""The null test of what lies in the project: the level, the verdict, and what broke it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from stembridge.errors import StembridgeError
from stembridge.manifest import RESIDUAL, read_manifest
from stembridge.reaper.families import (
    MADE_BY_HAND,
    MEASURED,
    OUT_OF_REACH,
    Difference,
    Family,
    Kind,
    Stem,
    StemSets,
    choose_families,
    find_differences,
)
from stembridge.reaper.fitting import fit_item, fit_take
from stembridge.reaper.playing import find_played
from stembridge.reaper.snapshot import Item, Snapshot, read_snapshot
from stembridge.reaper.threads.waiting import await_errand
from stembridge.reaper.turn import Start, Step, Turn

DEEP_DB = -100.0
"""Below this a sum that is not exact is as near as its files were written."""
_SAME_SLOPE = 1e-12


class Suspect(msgspec.Struct, frozen=True):
    """What is known of a family before anything is measured.

    Parameters
    ----------
    measured, unmeasured : differences that a sum of the files shows, and those that it cannot show
    remedy : what to do about the measured ones, as a sentence, or ''
    """

    name: str
    stems: str
    measured: tuple[str, ...]
    unmeasured: tuple[str, ...]
    remedy: str = ""


class NullTest(msgspec.Struct, frozen=True, omit_defaults=True):
    """A test under way; the errand measures one sum for each suspect."""

    errand: str = ""
    suspects: tuple[Suspect, ...] = ()


def start(turn: Turn) -> None:
    """Begin with what is selected, or with all."""
    turn.collect("tagged", "null.collected", NullTest())


def take_collected(turn: Turn, _test: NullTest, result: Any) -> None:
    """Look at what the items say, and have the samples summed."""
    snapshot = read_snapshot(result)
    families = choose_families(turn, snapshot)
    if not families:
        return
    sets = StemSets()
    suspects: list[Suspect] = []
    sums: list[dict[str, Any]] = []
    for family in families:
        if family.original is None or not family.stems:
            gone = "original is" if family.original is None else "stems are"
            turn.tell(f"{family.name}: its {gone} gone: there is nothing to compare.", is_error=True)
            continue
        found = find_differences(family, snapshot, sets)
        # The base that a tempo change works on changes no sound.
        heard = [difference for difference in found if difference.kind is not Kind.TIMEBASE]
        measured = tuple(str(one) for one in heard if one.kind in MEASURED)
        unmeasured = tuple(str(one) for one in heard if one.kind not in MEASURED)
        remedy = _find_remedy(family, found, snapshot)
        suspect = Suspect(family.name, _count(family), measured, unmeasured, remedy)
        try:
            sums.append(_form_sum(turn, family, family.original, snapshot, sets))
        except _Unmeasurable as reason:
            turn.tell(_say_unmeasured(suspect, str(reason)), is_error=True)
        else:
            suspects.append(suspect)
    if sums:
        errand = turn.house.start_errand("null", {"sums": sums})
        take_findings(turn, NullTest(errand, tuple(suspects)), None)


def _find_remedy(family: Family, found: Sequence[Difference], snapshot: Snapshot) -> str:
    """Return which actions put back what a sum of the files shows, as sentences, or ''."""
    measured = [one for one in found if one.kind in MEASURED]
    beyond = {one.guid for one in found if one.kind in OUT_OF_REACH}
    movable = [one for one in measured if one.kind in MADE_BY_HAND and one.guid not in beyond]
    sentences = []
    if movable and not family.is_locked:
        what = "it" if len(measured) == 1 else "them"
        if len(movable) < len(measured):
            what = ", ".join(dict.fromkeys(one.stem for one in movable))
        sentences.append(f"Realign puts {what} back.")
    faders = [one for one in measured if one.kind is Kind.FADER]
    items = [item for one in faders if (item := snapshot.find_item(one.guid)) is not None]
    tracks = [track for item in items if (track := snapshot.find_track(item.track)) is not None]
    if any(one.kind is Kind.REMIX for one in measured):
        sentences.append("Remix preset `reset` has the dry takes play.")
    elif any(track.values["B_MUTE"] for track in tracks):
        sentences.append("Remix preset `reset` unmutes it.")
    elif any(track.values["D_VOL"] != 1 for track in tracks):
        sentences.append("Remix preset `reset` puts its fader back.")
    return " ".join(sentences)


class _Unmeasurable(Exception):
    """Why the samples of a family cannot be summed."""


def _count(family: Family) -> str:
    names = {stem.tag.stem for stem in family.stems if not stem.tag.is_return}
    count = len(names - {RESIDUAL})
    return f"{count} stem{'s' * (count != 1)}{' + residual' * (RESIDUAL in names)}"


def _form_sum(
    turn: Turn, family: Family, original: Item, snapshot: Snapshot, sets: StemSets
) -> dict[str, Any]:
    """Return what the errand has to sum, as `stembridge.reaper.selection_null.Sum`.

    Times are those of the original's file: where a stem's file begins in it, as both items play it now.
    """
    path, first_s, last_s, wraps = _find_reference(family, original, sets)
    is_heard = any(not stem.is_muted for stem in family.stems)
    at = original.position
    place, slope = _follow_original(family, original, at)
    parts = []
    for stem in family.stems:
        take = stem.item.take
        if take is None or take.source is None or not take.source.exists:
            continue
        stem_place, stem_slope = _follow(stem.item, at)
        if abs(stem_slope - slope) > _SAME_SLOPE:
            raise _Unmeasurable(f"{stem.tag.stem} plays at another speed or in another direction")
        begin, end = max(stem.item.position, at), min(stem.item.end, original.end)
        ends = sorted((place + (begin - at) * slope, place + (end - at) * slope))
        parts.append(
            {
                "path": take.source.path,
                "start_s": place - stem_place,
                "first_s": first_s if wraps else ends[0],
                "last_s": last_s if wraps else ends[1] if end > begin else ends[0],
                "gain": 0.0 if is_heard and stem.is_muted else _find_gain(stem, original, snapshot),
                "state": _find_state(turn, take.source.path),
            }
        )
    return {
        "path": path,
        "first_s": first_s,
        "last_s": last_s,
        "parts": parts,
        "folders": sorted({known.folder for stem in family.stems if (known := sets.find(stem)) is not None}),
        "state": _find_state(turn, path),
    }


def _find_reference(family: Family, original: Item, sets: StemSets) -> tuple[str, float, float, bool]:
    """Return the file that the stems should sum to, the stretch of it that is heard, and whether it loops."""
    if family.stems[0].tag.fit.rendered_from is None:
        played = find_played(original)
        if played is None or not original.active.media.exists:
            raise _Unmeasurable("the original plays nothing")
        return original.active.media.path, played.first_s, played.last_s, played.wraps
    known = sets.find(family.stems[0])
    if known is None:
        raise _Unmeasurable("what REAPER rendered of the original is not known any more")
    path = read_manifest(Path(known.folder)).source.path
    first_s, _ = _follow_original(family, original, original.position)
    return path, first_s, first_s + original.length, False


def _follow_original(family: Family, original: Item, at: float) -> tuple[float, float]:
    rendered_from = family.stems[0].tag.fit.rendered_from
    if rendered_from is None:
        return _follow(original, at)
    values = original.active.values
    offset = (values["D_STARTOFFS"] - rendered_from) / values["D_PLAYRATE"]
    return offset + at - original.position, 1.0


def _follow(item: Item, at: float) -> tuple[float, float]:
    """Return where in its file an item is at a time of the project, and how fast it goes on."""
    values, media = item.active.values, item.active.media
    rate = values["D_PLAYRATE"]
    inside = values["D_STARTOFFS"] + (at - item.position) * rate
    if media.section is None:
        return inside, rate
    offset, length, is_reversed = media.section
    return (offset + length - inside, -rate) if is_reversed else (offset + inside, rate)


def _find_gain(stem: Stem, original: Item, snapshot: Snapshot) -> float:
    """Return the factor by which a stem is louder than it should be."""
    fit = stem.tag.fit
    wanted = fit_item(original, fit)["D_VOL"] * fit_take(original, fit)["D_VOL"]
    now = stem.item.values["D_VOL"] * stem.item.active.values["D_VOL"]
    gain = now / wanted if wanted else 1.0
    track = snapshot.find_track(stem.item.track)
    if track is None or track.guid == original.track:
        return gain
    fader = track.values["D_VOL"] * (-1 if track.values["B_PHASE"] else 1)
    return 0.0 if track.values["B_MUTE"] else gain * fader


def _find_state(turn: Turn, path: str) -> str:
    try:
        return turn.house.signature_of(path)
    except StembridgeError:
        return ""


def take_findings(turn: Turn, test: NullTest, _result: Any) -> None:
    """Say what came of every sum, once it is known."""
    errand = await_errand(turn, test.errand, "null.measured", test)
    if errand is None:
        return
    if errand.error is not None:
        turn.tell(f"Nothing was measured: {errand.error.message} ({errand.error.hint})", is_error=True)
        return
    for suspect, finding in zip(test.suspects, errand.result["findings"], strict=True):
        for text, is_error in _judge(suspect, finding):
            turn.tell(text, is_error=is_error)


def _judge(suspect: Suspect, finding: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """Yield the verdict on a family, and what does not hold in its folder."""
    level_db, peak_db = finding["level_db"], finding["peak_db"]
    causes = ", ".join(suspect.measured)
    if finding["fault"]:
        yield _say_unmeasured(suspect, finding["fault"]), True
    elif finding["is_exact"] and not suspect.measured and not suspect.unmeasured:
        yield f"{suspect.name}: exact null ({suspect.stems})", False
    elif finding["is_exact"]:
        broken = ", ".join((*suspect.measured, *suspect.unmeasured))
        yield f"{suspect.name}: the files sum exactly, but this is not in their sum: {broken}", True
    elif level_db is not None and level_db < DEEP_DB and not causes:
        what = f"the stems sum to the original (difference {level_db:.1f} dB, rounding; {suspect.stems})"
        yield f"{suspect.name}: {what}{_say_rest(suspect)}", bool(suspect.unmeasured)
    else:
        level = f"{level_db:.1f} dB" if level_db is not None else f"a peak of {peak_db:.1f} dBFS"
        why = causes or "a file is not what it was when it was placed"
        what = f"the stems do not sum to the original (difference {level}). {why[0].upper()}{why[1:]}."
        remedy = f" {suspect.remedy}" if suspect.remedy else ""
        yield f"{suspect.name}: {what}{remedy}{_say_rest(suspect)}", True
    for failure in finding["failures"]:
        yield f"{suspect.name}: {failure}", True


def _say_rest(suspect: Suspect) -> str:
    return f" Not measured: {', '.join(suspect.unmeasured)}." if suspect.unmeasured else ""


def _say_unmeasured(suspect: Suspect, reason: str) -> str:
    known = ", ".join((*suspect.measured, *suspect.unmeasured))
    return f"{suspect.name}: not measured: {reason}{f'; found: {known}' if known else ''}"


STARTS: dict[str, Start] = {"null_test": start}
STEPS: dict[str, Step] = {
    "null.collected": (NullTest, take_collected),
    "null.measured": (NullTest, take_findings),
}
