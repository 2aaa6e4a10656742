"""Remixes with effects on their way: one job for each set of stems, and how far they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from stembridge.errors import StembridgeError
from stembridge.presets import Preset
from stembridge.reaper.families import Family, StemSets
from stembridge.reaper.remix_takes import RemixSet, find_render_refusal, read_remix
from stembridge.reaper.requests import STEMS_FOLDER, find_job_id
from stembridge.reaper.stem_set import StemSet
from stembridge.reaper.threads.batch import RowState, form_row, judge_job
from stembridge.reaper.threads.waiting import LOOK_S
from stembridge.reaper.turn import Turn
from stembridge.types import Job, RemixRequest


class Render(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One set of stems, and the job that remixes it.

    Parameters
    ----------
    of : job of the set
    names : of the items whose stems these are
    split : the set's stems
    """

    of: str
    names: tuple[str, ...]
    split: tuple[str, ...] = ()
    job: str = ""
    folder: str = ""
    state: RowState = RowState.WAITING
    text: str = ""

    @property
    def label(self) -> str:
        return ", ".join(self.names)


class Remix(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is to be done.

    Parameters
    ----------
    tracks : GUIDs of the tracks above the stems
    preset : a name
    silent : names of items whose original plays, so that nothing of this is heard
    renders : of a preset that faders cannot set
    refused : GUIDs of items whose stems get none of it, as has been told
    lines : what else to say when it is done
    chosen : path of what an item must play then, by the item's GUID
    """

    tracks: tuple[str, ...] = ()
    preset: str = ""
    silent: tuple[str, ...] = ()
    renders: tuple[Render, ...] = ()
    refused: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    chosen: dict[str, str] = {}
    tries: int = 0


def find_preset_refusal(name: str, preset: Preset) -> str:
    """Return why takes cannot be what a preset makes, or ''."""
    if preset.is_extended:
        return f'preset {name} has tail = "extend", and no take is heard behind the end of its item'
    return ""


def submit_renders(
    turn: Turn, remix: Remix, preset: Preset, families: Sequence[Family], media_dir: str
) -> None:
    """Make a job for each set of stems; a family that cannot get takes is told and stops no other."""
    sets = StemSets()
    refused: list[str] = []
    by_set: dict[str, tuple[StemSet, list[str]]] = {}
    for family in families:
        reason = find_render_refusal(family, sets)
        found = None if reason else sets.find(family.stems[0])
        if found is None:
            refused.append(family.items[0].guid)
            turn.tell(f"{family.name} was skipped: {reason}", is_error=True)
        else:
            by_set.setdefault(found.job, (found, []))[1].append(family.name)
    renders = []
    for of, (stems, names) in by_set.items():
        split = tuple(file.stem for file in stems.files)
        render = Render(of=of, names=tuple(dict.fromkeys(names)), split=split)
        request = RemixRequest(
            stems.folder, str(Path(media_dir) / STEMS_FOLDER), remix.preset, stems_out=True
        )
        try:
            preset.check_stems(split)
            job_id = find_job_id(turn.house, request)
            turn.house.submit(request, job_id)
            render = msgspec.structs.replace(render, job=job_id)
        except StembridgeError as error:
            render = msgspec.structs.replace(render, state=RowState.FAILED, text=str(error))
        renders.append(render)
    if renders:
        now = msgspec.structs.replace(remix, renders=tuple(renders), refused=tuple(refused))
        look(turn, now, None)


def look(turn: Turn, remix: Remix, _result: Any) -> None:
    """See how the jobs stand and show it; once all are over, have their takes set."""
    jobs = {one.job: turn.house.find_job(one.job) for one in remix.renders if not one.state.is_final}
    renders = tuple(_update(one, jobs) for one in remix.renders)
    remix = msgspec.structs.replace(remix, renders=renders)
    is_rendered = all(one.state.is_final or one.state is RowState.PLACING for one in renders)
    has_any = any(one.state is RowState.PLACING for one in renders)
    is_recording = turn.host.is_recording
    turn.panel = _panel(renders, jobs, is_recording=is_recording)
    if not is_rendered or (has_any and is_recording):
        turn.wait(LOOK_S, "remix.look", remix)
        return
    for one in renders:
        job = jobs.get(one.job)
        for warning in job.result.warnings if job is not None and job.result is not None else ():
            turn.tell(f"{one.label}: {warning}")
        if one.state.is_final:
            turn.tell(f"{one.label}: {one.text}", is_error=one.state is not RowState.CANCELLED)
    if has_any:
        turn.collect("tagged", "remix.settled", remix)


def _update(render: Render, jobs: dict[str, Job | None]) -> Render:
    if render.state.is_final:
        return render
    job = jobs[render.job]
    state, text = judge_job(job)
    folder = job.result.folder if job is not None and job.result is not None else ""
    return msgspec.structs.replace(render, state=state, text=text, folder=folder)


def _panel(renders: Sequence[Render], jobs: dict[str, Job | None], *, is_recording: bool) -> dict[str, Any]:
    rows = [
        form_row(f"{one.job}/{number}", one.label, one.state, one.text, jobs.get(one.job))
        for number, one in enumerate(renders)
    ]
    left = [row["eta_s"] for one, row in zip(renders, rows, strict=True) if _is_under_way(one)]
    ready = sum(not _is_under_way(one) for one in renders)
    line = f"{ready} of {len(renders)} rendered"
    if is_recording and ready == len(renders):
        line = "remixes are ready and wait for the recording to end"
    done = [
        1.0 if one.state is RowState.PLACING else row["fraction"]
        for one, row in zip(renders, rows, strict=True)
    ]
    return {
        "line": line,
        "fraction": sum(done) / len(done),
        "eta_s": None if None in left else sum(left),
        "rows": rows,
    }


def _is_under_way(render: Render) -> bool:
    return render.state in (RowState.WAITING, RowState.RUNNING)


def read_remixes(turn: Turn, remix: Remix) -> dict[str, RemixSet]:
    """Return what was rendered, by the job of the set; what cannot be read is told."""
    found: dict[str, RemixSet] = {}
    for one in remix.renders:
        if one.state is not RowState.PLACING:
            continue
        try:
            found[one.of] = read_remix(one.folder, remix.preset, one.split)
        except StembridgeError as error:
            turn.tell(f"{one.label}: {error}", is_error=True)
    return found
