"""Items into split requests: one per region of a source that several items may share."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from stembridge import catalog
from stembridge.estimate import pass_seconds
from stembridge.manifest import FILE_NAME
from stembridge.presets import find_preset, read_preset
from stembridge.quality import QUALITIES
from stembridge.reaper.house import House
from stembridge.reaper.playing import find_needed, trim
from stembridge.reaper.preferences import Preferences
from stembridge.reaper.regions import Extent, plan_regions
from stembridge.reaper.snapshot import Item
from stembridge.settings import Settings
from stembridge.types import JobRequest, JobState, Region, RemixRequest, SplitRequest

STEMS_FOLDER = "Stems"
_MAX_ROUNDS = 1000


class Options(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is asked of a split; what is not set is as the preferences say."""

    quality: str = ""
    model: str = ""
    stems: tuple[str, ...] | None = None
    two_stems: str | None = None
    output: str = ""
    in_time_selection: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """One request, and the numbers of the items it is for."""

    request: SplitRequest
    items: tuple[int, ...]


def choose_model(options: Options, preferences: Preferences, settings: Settings) -> str:
    """Return the name of the model that is meant; the plain quality takes the one of the settings."""
    quality = options.quality or preferences.quality
    return (
        options.model
        or preferences.model
        or (settings.model if quality == "good" else QUALITIES[quality].model)
    )


def form_requests(
    items: Sequence[Item],
    options: Options,
    preferences: Preferences,
    settings: Settings,
    *,
    media_dir: str,
    baked: Mapping[str, str],
    lengths: Mapping[str, int],
    windows: Sequence[tuple[float, float] | None],
) -> list[Wanted]:
    """Return the requests that cover what ``items`` play.

    Parameters
    ----------
    baked : file that stands for an item, by the item's GUID: it is split as a whole
    lengths : frames of a file where REAPER's word for its length does not count, by path
    windows : per item the part of the project, in seconds, that is wanted of it
    """
    quality = QUALITIES[options.quality or preferences.quality]
    two_stems = options.two_stems or (preferences.two_stems if options.stems is None else "") or None
    base = SplitRequest(
        source="",
        out=str(Path(media_dir) / STEMS_FOLDER),
        model=choose_model(options, preferences, settings),
        stems=() if two_stems else preferences.stems if options.stems is None else options.stems,
        two_stems=two_stems,
        overlap=quality.overlap,
        shifts=quality.shifts,
        on_source_grid=True,
        precision=settings.precision,
    )
    found: list[Wanted] = []
    by_file: dict[str, list[int]] = {}
    for number, item in enumerate(items):
        if item.guid in baked:
            found.append(Wanted(replace(base, source=baked[item.guid]), (number,)))
        else:
            by_file.setdefault(item.active.media.path, []).append(number)
    for path, numbers in by_file.items():
        media = items[numbers[0]].active.media
        extent = Extent(lengths.get(path, round(media.file_length * media.rate)), media.rate)
        spans = [_span(items[number], windows[number]) for number in numbers]
        regions = plan_regions(spans, extent, preferences.handles_s)
        by_region: dict[Region | None, list[int]] = {}
        for number, region in zip(numbers, regions, strict=True):
            by_region.setdefault(region, []).append(number)
        for region, members in by_region.items():
            found.append(Wanted(replace(base, source=path, region=region), tuple(members)))
    return found


def _span(item: Item, window: tuple[float, float] | None) -> tuple[float, float]:
    inside = item
    if window is not None:
        inside = trim(item, max(window[0], item.position), min(window[1], item.end))
    # Where the window holds silence alone, what the rest of the item plays will do.
    needed = find_needed(inside) or find_needed(item)
    assert needed is not None
    return needed


def audio_seconds(wanted: Wanted, items: Sequence[Item]) -> float:
    """Return how much audio a request is for."""
    media = items[wanted.items[0]].active.media
    region = wanted.request.region
    return media.file_length if region is None else region.frames / media.rate


def estimate_seconds(wanted: Wanted, items: Sequence[Item], cost: float) -> float:
    """Return how long a request will take; ``cost`` as `House.cost_of` returns it."""
    model = catalog.find_model(wanted.request.model)
    return cost * pass_seconds(model, wanted.request, audio_seconds(wanted, items))


def find_job_id(house: House, request: JobRequest) -> str:
    """Return the id under which ``request`` is to be submitted.

    It follows from the request and the state of its source, so that the same once more is the same job: also
    for a script that has forgotten it, or a daemon that was killed before it could answer. A job that came to
    nothing, or whose result has gone, is passed over.

    Raises
    ------
    SourceError, PresetError
        There is no such file.
    """
    state = (
        _describe_remix(house, request)
        if isinstance(request, RemixRequest)
        else house.signature_of(request.source)
    )
    for number in range(_MAX_ROUNDS):
        told = msgspec.json.encode([msgspec.to_builtins(request), state, number])
        job_id = hashlib.sha256(told).hexdigest()[:32]
        job = house.find_job(job_id)
        if job is None or not job.state.is_final:
            return job_id
        if job.state is JobState.DONE and job.result is not None and _is_there(job.result.folder):
            return job_id
    return hashlib.sha256(told + state.encode()).hexdigest()[:32]


def _describe_remix(house: House, request: RemixRequest) -> str:
    """Return the state of everything that a remix is made of: the set, the preset, files that it names."""
    preset = read_preset(find_preset(request.preset, house.settings), request.changes)
    read = [str(Path(request.source) / FILE_NAME), *preset.files]
    return " ".join([*map(house.signature_of, read), preset.text])


def _is_there(folder: str) -> bool:
    return (Path(folder) / FILE_NAME).is_file()
