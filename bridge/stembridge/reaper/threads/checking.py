"""Check this REAPER: the real splitting of a scratch project, heard before and after, undone, and told.

What of REAPER no test here can know is tried where it counts, and written down for whoever mends it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import msgspec

from stembridge import __version__
from stembridge.reaper import operations as do
from stembridge.reaper.operations import TAG
from stembridge.reaper.playing import Way, judge
from stembridge.reaper.requests import Options
from stembridge.reaper.snapshot import Snapshot, read_snapshot
from stembridge.reaper.tags import TrackTag, read_tag
from stembridge.reaper.threads import scratch, splitting
from stembridge.reaper.threads.batch import Batch, Entry, RowState
from stembridge.reaper.threads.waiting import await_errand
from stembridge.reaper.turn import Start, Step, Turn, pack, unpack

MODEL = "preview"
"""Needs no files: what is checked is REAPER, not a model."""
NULL_DB = -100.0
"""A render in 32-bit floats rounds at about -150 dB, in 24 bits at -130; a frame's shift is above 0 dB."""
PIECES = tuple(piece for piece in scratch.PIECES if piece.name != scratch.BAKE)
BEFORE, AFTER = "before", "after"
MARK = "Stembridge: check rendering"
"""An undo step of ours just below the rendering: what lies on it then, the rendering has left."""
UNATTENDED = "unattended"
"""What a script remembers as "yes" where nobody can answer: the first question is not asked.

No action sets it. tests/reaper/test_real_reaper.py writes it into the settings of a REAPER that it has made
for itself and starts without a person.
"""
_CLOSE = 0.1
"""Gains that differ by less are the same: what is told apart is 0.5 and 1."""


class Check(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A check under way.

    Parameters
    ----------
    folder : where all of it lies
    song, mp3, bake : media files
    item, take : GUIDs of what is rendered by itself
    before : the scratch project before anything was split
    ways : what became of each piece's split: '' where its stems were placed
    leaves_step : rendering an item has left an undo step
    labels : undo steps that are still to be undone: stems came in any order, so any of them may be the last
    refused : how many of those, the last ones, were found not to be on top since something was undone
    changes : what undo has left behind
    """

    folder: str = ""
    errand: str = ""
    song: str = ""
    mp3: str = ""
    item: str = ""
    take: str = ""
    bake: str = ""
    before: Snapshot | None = None
    ways: dict[str, str] = {}
    rendered_first: tuple[str, ...] = ()
    leaves_step: bool = False
    labels: tuple[str, ...] = ()
    refused: int = 0
    steps: int = 0
    changes: tuple[str, ...] = ()
    is_ours: bool = False


def start(turn: Turn) -> None:
    """Say what will happen."""
    if turn.host.play:
        turn.tell("REAPER plays or records: stop it, then run the check.", is_error=True)
        return
    check = Check(folder=str(turn.house.settings.reaper_work_dir / f"check-{uuid.uuid4().hex[:8]}"))
    if turn.memory.get(UNATTENDED) == "yes":
        make_material(turn, check, {"answer": "yes"})
        return
    turn.ask(
        "Stembridge: check this REAPER",
        "This opens a scratch project in a new tab, splits a few items there, renders it twice, and undoes "
        "all of it. Your own project is not touched; please leave the tabs alone for the minute it takes. "
        "Where REAPER asks at the end whether to save the scratch project, answer No.\n\nBegin?",
        "check.agreed",
        check,
    )


def make_material(turn: Turn, check: Check, result: Any) -> None:
    """Have the media made."""
    if result.get("answer") == "yes":
        errand = turn.house.start_errand("check_material", {"folder": check.folder})
        open_tab(turn, msgspec.structs.replace(check, errand=errand), None)


def open_tab(turn: Turn, check: Check, _result: Any) -> None:
    """Open the scratch project once its media is there."""
    errand = await_errand(turn, check.errand, "check.made", check)
    if errand is None:
        return
    if errand.error is not None:
        turn.tell(f"The check could not begin: {errand.error.message} ({errand.error.hint})", is_error=True)
        return
    check = msgspec.structs.replace(check, song=errand.result["song"], mp3=errand.result["mp3"])
    turn.apply("", [do.command(do.NEW_PROJECT_TAB)], "check.opened", check)


def _applied(
    step: Callable[[Turn, Check, dict[str, Any]], None],
) -> Callable[[Turn, Check, Any], None]:
    """Make a step of one that needs its operations carried out: where they were not, the check ends."""

    @wraps(step)
    def guarded(turn: Turn, check: Check, result: Any) -> None:
        if result.get("ok"):
            step(turn, check, result)
            return
        turn.tell(
            f"The check FAILED: REAPER refused: {result.get('text') or result.get('reason')}. "
            "Close the scratch project's tab, if there is one, without saving.",
            is_error=True,
        )

    return guarded


@_applied
def look_at_tab(turn: Turn, check: Check, _result: dict[str, Any]) -> None:
    """Look what the new tab holds."""
    turn.collect("all", "check.empty", check)


def fill_tab(turn: Turn, check: Check, result: Any) -> None:
    """Put the items there, if there is nothing yet: else it may be a project of the user's."""
    snapshot = read_snapshot(result)
    if snapshot.items or snapshot.tracks:
        turn.tell(
            "The check FAILED: the new tab is not empty. A project template of yours may have put tracks "
            "there: set none for new projects, close that tab, and run the check again.",
            is_error=True,
        )
        return
    operations = [
        do.project_text("RECORD_PATH", check.folder),
        *scratch.set_rate(),
        *scratch.build(check.song, check.mp3),
    ]
    turn.apply("Stembridge: check", operations, "check.filled", check)


@_applied
def mark_undo(turn: Turn, check: Check, result: dict[str, Any]) -> None:
    """Make an undo step, to see later whether it is the last one still."""
    item = result["made"][scratch.item_name(scratch.PIECES[-1])]
    take = result["made"][scratch.take_name(scratch.PIECES[-1])]
    check = msgspec.structs.replace(check, item=item, take=take)
    turn.apply(MARK, [do.set_item_text(item, TAG, MARK)], "check.marked", check)


@_applied
def render_item(turn: Turn, check: Check, _result: dict[str, Any]) -> None:
    """Have REAPER render an item, as is done with those whose take has effects."""
    item = check.item
    operations = [
        do.select_only(item),
        do.command(do.RENDER_TO_NEW_TAKE),
        do.demand_new_take(item, check.take),
        do.read_file("path", item),
        do.command(do.DELETE_ACTIVE_TAKE),
        do.activate(check.take),
        do.restore_selection(),
    ]
    turn.apply("", operations, "check.baked", check)


@_applied
def unmark_undo(turn: Turn, check: Check, result: dict[str, Any]) -> None:
    """Undo the step below the rendering, if it is the last one still."""
    bake = result.get("read", {}).get("path", "")
    check = msgspec.structs.replace(check, bake="" if bake == check.song else bake)
    turn.undo(MARK, "check.unmarked", check)


def read_tab(turn: Turn, check: Check, result: Any) -> None:
    """Read how the project is before anything is split."""
    turn.collect("all", "check.read", msgspec.structs.replace(check, leaves_step=not result.get("done")))


def render_before(turn: Turn, check: Check, result: Any) -> None:
    """Render what is to be heard."""
    check = msgspec.structs.replace(check, before=read_snapshot(result))
    turn.apply("", scratch.render(Path(check.folder), BEFORE), "check.rendered", check)


@_applied
def split(turn: Turn, check: Check, _result: dict[str, Any]) -> None:
    """Split the items as any action does."""
    assert check.before is not None
    project = msgspec.structs.replace(check.before.project, media_dir=check.folder)
    snapshot = msgspec.structs.replace(check.before, project=project)
    items = [item for piece in PIECES if (item := scratch.find_piece(snapshot, piece)) is not None]
    splitting.take_items(
        turn,
        Batch(
            options=Options(model=MODEL, quality="good", stems=(), output="tracks"),
            handles_s=1.0,
            then="check.split",
            carried=pack(check),
        ),
        snapshot,
        [(item, None) for item in items],
    )


def render_after(turn: Turn, placed: Batch, _result: Any) -> None:
    """Render what the stems play."""
    ways = dict(placed.skipped)
    for entry in placed.entries:
        ways[entry.ticket.item.name] = "" if entry.state is RowState.DONE else entry.text or str(entry.state)
    labels = [_label(entry) for entry in placed.entries if entry.state is RowState.DONE]
    check = msgspec.structs.replace(
        unpack(placed.carried, Check),
        ways=ways,
        rendered_first=tuple(_list_rendered(placed.entries)),
        labels=tuple(labels),
        steps=len(labels),
    )
    turn.apply("", scratch.render(Path(check.folder), AFTER), "check.rerendered", check)


def _label(entry: Entry) -> str:
    return f"Stembridge: split {entry.ticket.item.name}"


def _list_rendered(entries: tuple[Entry, ...]) -> Iterator[str]:
    """Yield which lossy items REAPER had to render, because it decodes them otherwise than we do."""
    for entry in entries:
        if entry.ticket.baked and judge(entry.ticket.item).way is Way.LOSSY:
            yield entry.ticket.item.name


@_applied
def begin_to_undo(turn: Turn, check: Check, _result: dict[str, Any]) -> None:
    """Undo the placing of the stems, step by step."""
    _undo_next(turn, check)


def take_undone(turn: Turn, check: Check, result: Any) -> None:
    """Note whether a step was undone, and go on with whichever is on top now."""
    label, *others = check.labels
    if result.get("done"):
        check = msgspec.structs.replace(check, labels=tuple(others), refused=0)
    else:
        check = msgspec.structs.replace(check, labels=(*others, label), refused=check.refused + 1)
    _undo_next(turn, check)


def _undo_next(turn: Turn, check: Check) -> None:
    if check.refused < len(check.labels):
        turn.undo(check.labels[0], "check.undone", check)
    else:
        turn.collect("all", "check.reread", check)


def compare(turn: Turn, check: Check, result: Any) -> None:
    """Compare the project with what it was, and the renders with each other."""
    assert check.before is not None
    after = read_snapshot(result)
    tracks = {track.guid for track in check.before.tracks}
    is_ours = bool(tracks) and all(
        track.guid in tracks or isinstance(read_tag(track.tag), TrackTag) for track in after.tracks
    )
    folder = Path(check.folder)
    arguments = {
        "before": str(scratch.render_path(folder, BEFORE)),
        "after": str(scratch.render_path(folder, AFTER)),
        "pieces": [
            (piece.name, *scratch.span(number))
            for number, piece in enumerate(scratch.PIECES)
            if piece in PIECES
        ],
        "song": check.song,
        "bake": check.bake,
        "offset_s": scratch.BAKE_OFFSET_S,
        "length_s": scratch.LENGTH_S,
        "fade_s": scratch.BAKE_FADE_S,
    }
    errand = turn.house.start_errand("check_compare", arguments)
    changes = tuple(scratch.tell_changes(check.before, after))
    tell(turn, msgspec.structs.replace(check, errand=errand, changes=changes, is_ours=is_ours), None)


def tell(turn: Turn, check: Check, _result: Any) -> None:
    """Write the report, tell what matters of it, and close the scratch project."""
    errand = await_errand(turn, check.errand, "check.measured", check)
    if errand is None:
        return
    assert check.before is not None
    if errand.error is not None:
        failures = [f"comparing: {errand.error.message}"]
        lines = [f"FAILED  {failures[0]}"]
    else:
        verdicts = list(_judge(check, errand.result["differences"]))
        failures = [name for name, is_good, _ in verdicts if not is_good]
        lines = [f"{'nulls ' if is_good else 'FAILED'}  {name}: {text}" for name, is_good, text in verdicts]
        is_expected, text = _judge_bake(errand.result["bake"])
        failures += [] if is_expected else [scratch.BAKE]
        lines.append(f"{scratch.BAKE} (41999): {text}")
    lines += ["FAILED  undo: rendering leaves an undo step"] if check.leaves_step else []
    lines += _tell_undo(check)
    failures += ["undo"] if check.leaves_step or check.labels or check.changes else []
    readings = list(scratch.tell_readings(check.before))
    failures += ["what REAPER says of its items"] if readings else []
    lines += [f"reads otherwise: {text}" for text in readings] or ["all values read as they were set"]
    lines.append(f"without lanes: {scratch.tell_lanes(check.before)}")
    project = check.before.project
    verdict = f"FAILED for {', '.join(failures)}" if failures else "passed"
    head = f"Stembridge {__version__} in REAPER {project.reaper} on {project.os}: check {verdict}"
    path = Path(check.folder) / "report.txt"
    path.write_text("\n".join([head, *lines]) + "\n", "utf-8")
    for text in [head, *lines]:
        turn.tell(text, is_error=bool(failures))
    turn.tell(f"The report to paste is in {path}", is_error=bool(failures))
    if check.is_ours:
        turn.apply("", [do.command(do.CLOSE_PROJECT_TAB)], "check.closed", check)
    else:
        turn.tell("The scratch project has tracks that are not the check's: it stays open.", is_error=True)


def _judge(check: Check, differences: dict[str, Any]) -> Iterator[tuple[str, bool, str]]:
    """Yield for each piece its name, whether it nulls, and what is to be said of it."""
    for piece in PIECES:
        level = differences[piece.name]
        note = " (REAPER decodes it otherwise, and rendered it first)" * (piece.name in check.rendered_first)
        if check.ways.get(piece.name, "it was not there"):
            yield piece.name, False, check.ways.get(piece.name, "it was not there")
        elif level == "silent":
            yield piece.name, False, "REAPER's render of it is silent"
        elif level is None:
            yield piece.name, True, f"no difference at all{note}"
        else:
            yield piece.name, level <= NULL_DB, f"{level:.1f} dB{note}"


def _judge_bake(gains: dict[str, float]) -> tuple[bool, str]:
    """Return whether REAPER's rendering holds what its stems are not given again, and what is to be said."""
    if not gains:
        return False, "no file came of it"
    volume, fade = gains["volume"], gains["fade"]
    has_volume, has_fade = abs(volume - scratch.BAKE_VOLUME) <= _CLOSE, fade < 1 - _CLOSE
    return has_volume and not has_fade, (
        f"take volume is {'in' if has_volume else 'NOT in'} it (x {volume:.3f}), "
        f"item fades are {'IN' if has_fade else 'not in'} it (x {fade:.3f})"
    )


def _tell_undo(check: Check) -> list[str]:
    undone = check.steps - len(check.labels)
    lines = [f"undo: {undone} of {check.steps} steps undone"]
    if check.changes:
        lines += [f"undo left behind: {text}" for text in check.changes]
    else:
        lines.append("undo: the project is as it was")
    return lines


def note_closed(turn: Turn, _check: Check, result: Any) -> None:
    """Say so where the tab is still there."""
    if not result.get("ok"):
        turn.tell("The scratch project could not be closed: close its tab without saving.", is_error=True)


STARTS: dict[str, Start] = {"check": start}
STEPS: dict[str, Step] = {
    "check.agreed": (Check, make_material),
    "check.made": (Check, open_tab),
    "check.opened": (Check, look_at_tab),
    "check.empty": (Check, fill_tab),
    "check.filled": (Check, mark_undo),
    "check.marked": (Check, render_item),
    "check.baked": (Check, unmark_undo),
    "check.unmarked": (Check, read_tab),
    "check.read": (Check, render_before),
    "check.rendered": (Check, split),
    "check.split": (Batch, render_after),
    "check.rerendered": (Check, begin_to_undo),
    "check.undone": (Check, take_undone),
    "check.reread": (Check, compare),
    "check.measured": (Check, tell),
    "check.closed": (Check, note_closed),
}
