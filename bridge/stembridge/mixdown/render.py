"""One remix from a finished set to a published folder: chains, returns, master, common gain, files, checks.

`render_remix` is a generator: it yields its progress, and closing it between any two yields cancels it. All
that it writes lies in one hidden work folder beside the result, until one rename makes that the result. It
needs no separator.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from stembridge import __version__, disk, manifest
from stembridge.closing import tell_inexact
from stembridge.delivery import check_file_names, check_format, check_practice, check_sessions
from stembridge.dsp import grid
from stembridge.effects.chain import PluginEffect
from stembridge.effects.kinds import chain_is_linear, drop_neutral
from stembridge.effects.stream import MAX_TAIL_S
from stembridge.errors import RequestError
from stembridge.mixdown.files import RemixPlan, WrittenRemix, label_of, write_remix
from stembridge.mixdown.levels import hold_ceiling, match_levels
from stembridge.mixdown.measuring import measure_remix, write_report
from stembridge.mixdown.mixing import Mix
from stembridge.mixdown.practice import write_practice
from stembridge.mixdown.rendering import Renderer
from stembridge.mixdown.source_set import SourceSet, check_unread, find_original, open_set
from stembridge.mixdown.tracks import Track, plan_tracks
from stembridge.null_test import decibels
from stembridge.plane_file import PlaneFile
from stembridge.presets import Preset, find_preset, read_preset
from stembridge.publishing import find_published, publish, verify_files, work_folder, write_listening_copies
from stembridge.sessions.writing import add_sessions
from stembridge.settings import Settings
from stembridge.stages import Stages
from stembridge.stem_file import MP3_CHANNELS
from stembridge.types import Progress, RemixRequest, SplitResult

_MP3_BYTES_PER_S = 40_000
"""At the highest rate there is, 320 kbit/s."""

_EFFECTS_COST = 0.25
"""Of one effect on one signal, where writing one file costs 0.17."""


def render_remix(
    request: RemixRequest,
    job_id: str,
    settings: Settings,
    *,
    now: Callable[[], float] = time.time,
    clock: Callable[[], float] = time.monotonic,
    before_each: Callable[[str], None] = lambda step: None,
) -> Generator[Progress, None, SplitResult]:
    """Render one preset on a finished set and publish the result folder; yield how far that is.

    A result of the same job that is already there and verifies is returned as it is.

    Parameters
    ----------
    job_id : tells results of one set and preset apart
    now : seconds since the epoch, for the manifest
    clock : monotonic seconds, for times
    before_each : called with 'manifest' and with 'rename' just before that is done

    Raises
    ------
    SourceError : the folder holds no set, or not the one that was written
    PresetError : no such preset, one that cannot be, or one for another set
    RequestError : options that this set rules out
    EffectError : an effect gave what must not be delivered; a `PluginError` where a plugin did
    OutputError : the result cannot be written
    ExactnessError : the written files do not hold what would be claimed
    """
    began = clock()
    source = open_set(Path(request.source))
    path = find_preset(request.preset, settings)
    preset = read_preset(path, request.changes)
    tracks = plan_tracks(source.document, preset)
    _check_request(request, source)
    plan = RemixPlan(
        job_id,
        Path(request.out),
        source,
        label_of(path),
        request.stems_out,
        request.format,
        request.file_names,
    )
    document = find_published(plan.final, job_id, source.document.source.path)
    if document is None:
        document = yield from _render(plan, preset, tracks, request, settings, now, before_each)
    return SplitResult(
        folder=str(plan.final),
        audio_s=document.source.frames / document.source.sample_rate,
        separate_s=0.0,
        total_s=clock() - began,
        residual_db=document.residual.level_db,
        warnings=(*document.warnings, *(document.remix.notes if document.remix else ())),
    )


def _check_request(request: RemixRequest, source: SourceSet) -> None:
    """Refuse options that cannot be, before anything is read."""
    check_format(request.format)
    if request.mp3 and source.channels > MP3_CHANNELS:
        raise RequestError(
            f"MP3 copies of {source.channels} channels", f"MP3 holds {MP3_CHANNELS}: leave out --mp3"
        )
    check_practice(request.speed, request.pitch)
    check_file_names(request.file_names)
    check_sessions(request.sessions)


@dataclass(slots=True)
class _Mixdown:
    """What became of the stems, and what there is to say of it."""

    mix: Mix
    gain_db: float = 0.0
    reduction_db: float = 0.0
    notes: tuple[str, ...] = ()
    touching: tuple[str, ...] = ()


def _render(
    plan: RemixPlan,
    preset: Preset,
    tracks: tuple[Track, ...],
    request: RemixRequest,
    settings: Settings,
    now: Callable[[], float],
    before_each: Callable[[str], None],
) -> Generator[Progress, None, manifest.Manifest]:
    stages = _plan_stages(plan, preset, tracks, request)
    with work_folder(plan.out, plan.job_id) as work:
        disk.check_free(plan.out, _estimate_disk(plan, preset, tracks, request), "remix")
        temporary = work / "planes"
        with disk.writing(plan.out):
            temporary.mkdir()
        with ExitStack() as stack:
            source = yield from stages.tell("read", find_original(plan.source))
            plan = replace(plan, source=source)
            mixdown = yield from _mix_down(plan, preset, tracks, settings, stages, temporary, stack)
            written = yield from stages.tell("close", write_remix(plan, mixdown.mix, work))
            yield from stages.tell("check", check_unread(plan.source))
            document = _describe(plan, preset, mixdown, written, manifest.timestamp(now()))
            yield from stages.tell("verify", verify_files(work, document))
            document = yield from _add_copies(plan, request, stages, written, document, work)
            if request.report:
                measuring = measure_remix(mixdown.mix, mixdown.reduction_db, mixdown.touching, written, work)
                figures = yield from stages.tell("report", measuring)
                with disk.writing(plan.out):
                    write_report(work, document, figures)
        with disk.writing(plan.out):
            shutil.rmtree(temporary)
        document = yield from add_sessions(request.sessions, work, plan.final, document, stages)
        yield from publish(work, plan.final, document, stages, before_each)
    return document


def _estimate_disk(
    plan: RemixPlan, preset: Preset, tracks: tuple[Track, ...], request: RemixRequest
) -> disk.DiskNeed:
    """Return the room that a remix may need, its longest tail and its widest files included."""
    source = plan.source
    frames = source.frames + preset.is_extended * round(MAX_TAIL_S * source.sample_rate)
    plane = 4 * frames * source.channels
    files = 1 + (len(tracks) + len(preset.sends)) * plan.has_stems
    # What a 32-bit float may not hold: the closing file, and with it the remix.
    bits = source.document.grid.residual_bits
    files += (1 + plan.has_stems) * (bits is None or bits > grid.STEM_BITS)
    result = plane * files + request.mp3 * _MP3_BYTES_PER_S * frames // source.sample_rate
    if (request.speed, request.pitch) != (1.0, 0.0):
        result += round(plane / request.speed)
    # Every chain leaves its signal on the disk until the files are written, and a master chain leaves more.
    signals = sum(bool(track.chain.effects) for track in tracks) + len(preset.sends)
    if preset.master.chain.effects:
        signals += len(tracks) + len(preset.sends)
    curve = 4 * frames * (preset.master.ceiling_dbtp is not None)
    return disk.DiskNeed(result, result + plane * signals + curve)


def _plan_stages(plan: RemixPlan, preset: Preset, tracks: tuple[Track, ...], request: RemixRequest) -> Stages:
    """Return the stages of a remix, each as long as it takes re the others; what is not asked takes none."""
    signals = len(tracks) + len(preset.sends)
    files = 1 + signals * plan.has_stems
    stems = len(plan.source.document.stems)
    master = preset.master
    costs = {
        "read": 0.05,
        "effects": _EFFECTS_COST * sum(len(track.chain.effects) for track in tracks),
        "sends": _EFFECTS_COST * sum(len(send.chain.effects) for send in preset.sends),
        "master": _EFFECTS_COST
        * len(master.chain.effects)
        * (signals if chain_is_linear(master.chain) else 1),
        "match": 0.8 * bool(master.match),
        "ceiling": 1.5 * (master.ceiling_dbtp is not None),
        "close": 0.17 * files + 0.1 * stems,
        "check": 0.1,
        "verify": 0.17 * files,
        "mp3": 3.0 * request.mp3,
        "practice": 6.0 * ((request.speed, request.pitch) != (1.0, 0.0)),
        "report": request.report * (1.0 + 0.25 * stems),
        "session": 0.2 * len(request.sessions),
        "publish": 0.05,
    }
    begins, begin = {}, 0.0
    for name, cost in costs.items():
        begins[name] = begin
        begin += cost
    return Stages(**{name: at / begin for name, at in begins.items()})


def _mix_down(
    plan: RemixPlan,
    preset: Preset,
    tracks: tuple[Track, ...],
    settings: Settings,
    stages: Stages,
    folder: Path,
    stack: ExitStack,
) -> Generator[Progress, None, _Mixdown]:
    source, bits = plan.source, plan.stem_bits
    renderer = Renderer(source, settings, folder, plan.out, stack, bits, preset.is_extended)
    voices = yield from stages.tell("effects", renderer.render_tracks(tracks))
    returns = yield from stages.tell("sends", renderer.render_sends(preset.sends, voices))
    at = len(voices) - (voices[-1].entry == source.closing)
    voices = (*voices[:at], *returns, *voices[at:])
    mix = Mix(source, voices, bits, max(voice.frames for voice in voices))
    master = preset.master
    chain = drop_neutral(master.chain)
    if chain.effects:
        mix = yield from stages.tell("master", renderer.render_master(chain, mix))
    mixdown = _Mixdown(mix)
    notes = list(renderer.notes)
    if master.match:
        mixdown.gain_db, note = yield from stages.tell("match", match_levels(mix, master.match))
        notes += [note] if note else []
        mix = replace(mix, gain=10 ** (mixdown.gain_db / 20))
    if master.ceiling_dbtp is not None:
        with disk.writing(plan.out):
            curve = stack.enter_context(PlaneFile(folder, "curve", 1))
        holding = hold_ceiling(mix, master.ceiling_dbtp, master.match, curve, plan.out)
        mix, mixdown.reduction_db, note = yield from stages.tell("ceiling", holding)
        notes += [note] if note else []
    touching = {
        "the master chain": bool(chain.effects) and chain_is_linear(chain),
        "the match": mix.gain != 1.0,
        "the ceiling": mix.curve is not None,
    }
    mixdown.touching = tuple(name for name, is_touching in touching.items() if is_touching)
    mixdown.mix, mixdown.notes = mix, tuple(notes)
    return mixdown


def _describe(
    plan: RemixPlan, preset: Preset, mixdown: _Mixdown, written: WrittenRemix, created: str
) -> manifest.Manifest:
    """Return the manifest of a written remix."""
    source, mix = plan.source, mixdown.mix
    document = source.document
    return manifest.Manifest(
        generator=manifest.Generator(__version__),
        job=plan.job_id,
        created=created,
        source=replace(
            document.source,
            sha256_pcm=written.sha256_pcm,
            frames=mix.frames,
            subtype=written.remix.subtype,
            region=manifest.RegionEntry(0, mix.frames),
        ),
        model=document.model,
        grid=written.grid,
        claims=written.claims,
        residual=manifest.ResidualEntry(document.residual.policy, written.level_db),
        stems=written.stems or (written.remix,),
        deterministic=not _has_plugin(preset),
        mixture=written.remix if written.stems else None,
        warnings=(*written.remarks, *_warn(plan, written)),
        mono=tuple(name for name in document.mono if name in written.untouched and written.stems),
        near_mono=tuple(name for name in document.near_mono if name in written.untouched and written.stems),
        remix=manifest.RemixEntry(
            preset=plan.label,
            text=preset.text,
            of_job=document.job,
            of_sha256_pcm=document.source.sha256_pcm,
            of_frames=source.frames,
            of_start=document.source.region.start,
            untouched=written.untouched,
            gain_db=mixdown.gain_db,
            reduction_db=mixdown.reduction_db,
            notes=mixdown.notes,
        ),
    )


def _has_plugin(preset: Preset) -> bool:
    return any(isinstance(effect, PluginEffect) for effect in preset.effects)


def _warn(plan: RemixPlan, written: WrittenRemix) -> tuple[str, ...]:
    # A remix alone is no sum.
    warnings = tell_inexact(written.claims) if written.stems else ()
    if plan.source.is_short:
        error_db = decibels(plan.source.document.claims.max_error)
        warnings = (
            *warnings,
            f"the original is not there any more: what the set lacks of it, up to {error_db:.0f} dBFS, "
            "is not in the remix either",
        )
    return warnings


def _add_copies(
    plan: RemixPlan,
    request: RemixRequest,
    stages: Stages,
    written: WrittenRemix,
    document: manifest.Manifest,
    work: Path,
) -> Generator[Progress, None, manifest.Manifest]:
    """Add what is to be listened to beside the verified remix; return the manifest that lists it."""
    if request.mp3:
        copying = write_listening_copies(work, (written.remix,), document.source.region.frames, written.tags)
        document = replace(document, listening=(yield from stages.tell("mp3", copying)))
    if (request.speed, request.pitch) != (1.0, 0.0):
        practising = write_practice(
            work, written.remix, plan.source.groups, speed=request.speed, pitch_semitones=request.pitch
        )
        entry = yield from stages.tell("practice", practising)
        document = replace(document, listening=(*document.listening, entry))
        if document.remix is not None:
            notes = (*document.remix.notes, f"{entry.file!r} is outside the sum guarantee")
            document = replace(document, remix=replace(document.remix, notes=notes))
    return document
