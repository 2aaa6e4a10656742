"""Stems that came from elsewhere become a set like any other: placed, cut to the mixture, closed, verified.

Whatever made them (another separator, an editor, a service, an MP3 round trip), their rate, length, latency
and polarity may be others than the mixture's. `conform` is a generator: it yields its progress, and closing
it between any two yields cancels it. All that it writes lies in one hidden work folder beside the result,
until one rename makes that the result.
"""

from __future__ import annotations

import re
import shutil
import time
import uuid
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from itertools import combinations
from math import isfinite, sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import oaconvolve

from stembridge import audio_io, disk, manifest, transcode
from stembridge.closing import (
    Original,
    OriginalScan,
    SetPlan,
    check_plan,
    describe_set,
    finish_set,
    write_set,
)
from stembridge.delivery import check_delivery, check_file_names, check_sessions
from stembridge.dsp.align import NOT_IN_MIXTURE, REACH_FRAMES, Alignment, Decision, estimate_alignments
from stembridge.dsp.delay_line import Reader, advance
from stembridge.dsp.resample import StreamResampler, count_frames
from stembridge.errors import AlignmentError, RequestError, SourceError
from stembridge.plane_file import PlaneFile
from stembridge.publishing import work_folder
from stembridge.stages import Stages
from stembridge.stem_tag import read_tag
from stembridge.types import AUTO_FORMAT, FILE_NAMES, Progress, ResidualPolicy, SplitResult

MODEL_NAME = "conform"
"""What stands in the manifest where the stems were not separated here."""

RESERVED_NAMES = (manifest.RESIDUAL, manifest.MIXTURE)
"""Names that no stem may have: the set itself uses them."""

# Where each stage begins on the way from 0 to 1. Before everything is decoded, nobody knows how much there is
# to read: decoding counts for nothing.
_STAGES = Stages(decode=0.0, read=0.0, align=0.4, close=0.55, verify=0.8, mp3=0.9, session=0.98, publish=0.99)
_SAME, _TWIN_FRAMES = 0.999, 1 << 16
_SEPARATORS = " -_.,()[]"
_PARENTHESES = re.compile(r"\(([^()]*)\)")


@dataclass(frozen=True, slots=True)
class Delivery:
    """How the set is delivered: as the fields of the same names in `stembridge.types.SplitRequest`."""

    format: str = AUTO_FORMAT
    exact_float: bool = False
    residual: ResidualPolicy = ResidualPolicy.OWN
    mono: tuple[str, ...] = ()
    mp3: bool = False
    file_names: str = FILE_NAMES
    sessions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Placed:
    """One stem at the mixture's rate and channels, where it belongs; 0 where it has no samples."""

    name: str
    read: Reader


@dataclass(frozen=True, slots=True)
class _PlacedStems:
    """All stems as `write_set` wants them."""

    stems: Sequence[_Placed]

    def read(self, start: int, frames: int) -> NDArray[np.float32]:
        return np.stack([stem.read(start, frames) for stem in self.stems]).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Laid:
    """One stem on the disk at the mixture's rate, ``planes.frames`` frames of it."""

    path: Path
    planes: PlaneFile
    channels: int

    def read(self, start: int, frames: int) -> NDArray[np.float64]:
        """Return (channels, frames); a single channel stands for the same signal in all."""
        samples = self.planes.read(start, frames).astype(np.float64)
        return samples if len(samples) == self.channels else np.repeat(samples, self.channels, axis=0)


def name_stems(mixture: Path, stems: Sequence[Path]) -> dict[str, Path]:
    """Return ``stems`` by the names that their files' names tell.

    Left out is what the mixture's name and all stems' names share, numbers before it, and signs around it;
    what stands in the last round brackets wins: 'song - vocals.wav', 'vocals.wav', 'song_vocals.flac' and
    '1_song_(Vocals)_model.wav' are all 'vocals'.

    Raises
    ------
    RequestError : two files with one name, or a name that the set uses itself
    """
    texts = [_strip_song(path.stem, mixture.stem) for path in stems]
    if not any(_PARENTHESES.search(text) for text in texts):
        texts = _strip_shared(texts)
    names: dict[str, Path] = {}
    for path, text in zip(stems, texts, strict=True):
        brackets = [part for part in _PARENTHESES.findall(text) if part.strip(_SEPARATORS)]
        bare = re.sub(r"^[\s_.-]*\d+[\s_.-]+", "", brackets[-1] if brackets else text)
        name = manifest.sanitise_name(bare.strip(_SEPARATORS).lower() or path.stem.lower(), 32)
        if name in names:
            raise RequestError(
                f"{str(path)!r} and {str(names[name])!r} would both be the stem {name!r}",
                "name them: NAME=FILE",
            )
        names[name] = path
    _check_names(names)
    return names


def find_rest(path: Path) -> str:
    """Return which of `RESERVED_NAMES` a file of ours is, by its tag or else by its name; '' if none."""
    with suppress(OSError):
        if tag := read_tag(path):
            return tag.stem if tag.stem in RESERVED_NAMES else ""
    return next((name for name in RESERVED_NAMES if path.stem.endswith(f" - {name}")), "")


def conform(
    mixture: Path,
    stems: Mapping[str, Path],
    out: Path,
    *,
    as_is: bool = False,
    delivery: Delivery | None = None,
    job_id: str | None = None,
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], float] = time.time,
) -> Generator[Progress, None, SplitResult]:
    """Place ``stems`` against ``mixture``, close the sum and publish the set; yield how far that is.

    Parameters
    ----------
    mixture : audio file that the stems are to sum to
    stems : audio files by the names of their stems; see `name_stems`
    out : folder that receives the result folder
    as_is : take the stems as they lie, without measuring where that is
    delivery : formats and policies; None means all defaults
    job_id : tells results of one mixture apart; None means a new one
    clock : monotonic seconds, for times
    now : seconds since the epoch, for the manifest

    Raises
    ------
    AlignmentError : a stem that cannot be placed, and why
    SourceError : a file cannot be read, or has other channels than the mixture
    RequestError : names or options that cannot be
    OutputError : the result cannot be written
    ExactnessError : the written files do not hold what would be claimed
    """
    began = clock()
    delivery = delivery or Delivery()
    job_id = job_id or uuid.uuid4().hex
    _check_request(mixture, stems, delivery)
    with work_folder(out, job_id) as work:
        temporary = work / "planes"
        with disk.writing(out):
            temporary.mkdir()
        info = yield from _open_source(mixture, temporary / "decoded-mixture", out)
        files: dict[str, audio_io.SourceInfo] = {}
        for name in manifest.order_stems(tuple(stems)):
            files[name] = yield from _open_source(stems[name], temporary / f"decoded-{len(files)}", out)
            _check_channels(files[name], info)
        plan = _plan_set(job_id, out, mixture, info, files, delivery)
        check_plan(plan)
        _check_room(plan)
        with ExitStack() as stack:
            original, mixed, laid = yield from _STAGES.tell("read", _lay_down(plan, files, temporary, stack))
            found: dict[str, Alignment] = {}
            if not as_is:
                found = yield from _STAGES.tell("align", _place(mixed, laid, info))
            written = yield from _STAGES.tell("close", write_set(plan, original, _apply(laid, found), work))
            remarks = tuple(_tell_ends(laid, found, info))
        with disk.writing(out):
            shutil.rmtree(temporary)
        document = describe_set(plan, original, written, manifest.timestamp(now()))
        document = replace(
            document,
            warnings=(*remarks, *document.warnings),
            alignment=tuple(_entry(name, one) for name, one in found.items()),
        )
        document = yield from finish_set(plan, written, document, work, _STAGES)
    return SplitResult(
        folder=str(plan.final),
        audio_s=info.frames / info.sample_rate,
        separate_s=0.0,
        total_s=clock() - began,
        residual_db=written.level_db,
        warnings=document.warnings,
    )


# --- names ----------------------------------------------------------------------------------------------


def _strip_song(text: str, song: str) -> str:
    at = text.lower().find(song.lower())
    return text if at < 0 or text.lower() == song.lower() else text[:at] + text[at + len(song) :]


def _strip_shared(texts: Sequence[str]) -> list[str]:
    """Return ``texts`` without the words that all of them begin and end with."""
    words = [re.split(r"([\s_.-]+)", text) for text in texts]
    shortest = min(map(len, words), default=0)
    if len(words) < 2 or not shortest:
        return list(texts)
    head = 0
    while head < shortest - 1 and len({row[head].lower() for row in words}) == 1:
        head += 1
    tail = 0
    while tail < shortest - head - 1 and len({row[-1 - tail].lower() for row in words}) == 1:
        tail += 1
    return ["".join(row[head : len(row) - tail]) for row in words]


def _check_names(names: Mapping[str, Path]) -> None:
    if not names:
        raise RequestError("no stems to conform", "give their files after the mixture's")
    for name, path in names.items():
        if name.casefold() in RESERVED_NAMES:
            raise RequestError(
                f"{str(path)!r} cannot be the stem {name!r}: the set itself uses that name",
                _tell_reserved(path),
            )
        if not name or name != manifest.sanitise_name(name, 32):
            raise RequestError(f"{name!r} cannot name a stem", "at most 32 bytes, no signs like / or :")
    if len({name.casefold() for name in names}) < len(names):
        raise RequestError(f"stems {', '.join(names)} differ in case alone", "name them otherwise: NAME=FILE")


def _tell_reserved(path: Path) -> str:
    """Return what to do about a file that would have a name which the set uses itself."""
    otherwise = "name it otherwise: NAME=FILE"
    contents = {
        manifest.RESIDUAL: "is in the new residual again",
        manifest.MIXTURE: "is what the stems sum to",
    }
    if rest := find_rest(path):
        return f"leave it out where it comes from a set: what it holds {contents[rest]}; else {otherwise}"
    return otherwise


def _check_request(mixture: Path, stems: Mapping[str, Path], delivery: Delivery) -> None:
    _check_names(stems)
    for path in stems.values():
        if mixture.exists() and path.exists() and mixture.samefile(path):
            raise RequestError(
                f"{str(path)!r} is the mixture itself", "give the mixture once, then its stems"
            )
    check_delivery(
        file_format=delivery.format,
        residual=delivery.residual,
        mono=delivery.mono,
        stems=tuple(stems),
        is_full=True,
    )
    check_file_names(delivery.file_names)
    check_sessions(delivery.sessions)


# --- files in -------------------------------------------------------------------------------------------


def _open_source(path: Path, folder: Path, out: Path) -> Generator[Progress, None, audio_io.SourceInfo]:
    with disk.writing(out):
        info = yield from _STAGES.tell("decode", transcode.open_source(str(path), folder))
    return info


def _check_channels(stem: audio_io.SourceInfo, mixture: audio_io.SourceInfo) -> None:
    if stem.channels == mixture.channels or (stem.channels == 1 and mixture.channels == 2):
        return
    allowed = "1 or 2" if mixture.channels == 2 else str(mixture.channels)
    raise SourceError(
        f"{stem.path!r} has {stem.channels} channels, the mixture {mixture.channels}",
        f"export it again with {allowed}",
    )


def _plan_set(
    job_id: str,
    out: Path,
    mixture: Path,
    info: audio_io.SourceInfo,
    files: Mapping[str, audio_io.SourceInfo],
    delivery: Delivery,
) -> SetPlan:
    return SetPlan(
        job_id=job_id,
        out=out,
        name=manifest.source_name(str(mixture)),
        info=info,
        region=audio_io.check_region(info, None),
        model=manifest.ModelEntry(MODEL_NAME, sha256="", precision="full", shifts=0, seed=0, overlap=0.0),
        stems=tuple(files),
        closing_name=None if delivery.residual.is_fold else manifest.RESIDUAL,
        policy=delivery.residual.value,
        model_rate=min(file.sample_rate for file in files.values()),
        is_full=True,
        format=delivery.format,
        exact_float=delivery.exact_float,
        mono=delivery.mono,
        mp3=delivery.mp3,
        file_names=delivery.file_names,
        sessions=delivery.sessions,
    )


def _check_room(plan: SetPlan) -> None:
    disk.check_free(
        plan.out,
        disk.estimate_disk(
            frames=plan.info.frames,
            channels=plan.info.channels,
            stems=len(plan.stems) + plan.has_mixture,
            model_frames=plan.info.frames,
            double_residual=plan.exact_float,
        ),
    )


def _lay_down(
    plan: SetPlan, files: Mapping[str, audio_io.SourceInfo], folder: Path, stack: ExitStack
) -> Generator[float, None, tuple[Original, PlaneFile, dict[str, _Laid]]]:
    """Read every file once, resample the stems to the mixture's rate; yield the fraction that is done."""
    total = plan.info.frames + sum(file.frames for file in files.values())
    done = 0
    scan = OriginalScan(plan.info)
    with disk.writing(plan.out):
        mixed = stack.enter_context(PlaneFile(folder, "mixture", plan.info.channels))
    for block in audio_io.read_blocks(plan.info, plan.region):
        scan.add(block)
        with disk.writing(plan.out):
            mixed.append(block)
        done += block.shape[1]
        yield done / total
    laid = {}
    for index, (name, file) in enumerate(files.items()):
        with disk.writing(plan.out):
            planes = stack.enter_context(PlaneFile(folder, f"stem-{index}", file.channels))
        frames = count_frames(file.frames, file.sample_rate, plan.info.sample_rate)
        stream = StreamResampler(file.channels, file.sample_rate, plan.info.sample_rate, frames=frames)
        for block in audio_io.read_blocks(file, audio_io.check_region(file, None)):
            with disk.writing(plan.out):
                planes.append(stream.push(block))
            done += block.shape[1]
            yield done / total
        with disk.writing(plan.out):
            planes.append(stream.finish())
        laid[name] = _Laid(Path(file.path), planes, plan.info.channels)
    return scan.finish(), mixed, laid


# --- where they lie -------------------------------------------------------------------------------------


def _place(
    mixed: PlaneFile, laid: Mapping[str, _Laid], info: audio_io.SourceInfo
) -> Generator[float, None, dict[str, Alignment]]:
    """Return where each stem lies; yield now and then the fraction that is done.

    Raises
    ------
    AlignmentError : one of them cannot be placed
    """

    def read(start: int, frames: int) -> NDArray[np.float64]:
        return mixed.read(start, frames).astype(np.float64)

    def estimate(names: Collection[str]) -> dict[str, Alignment]:
        stems = [laid[name].read for name in names]
        return dict(zip(names, estimate_alignments(read, stems, info.sample_rate, info.frames), strict=True))

    yield 0.0
    found = estimate(laid)
    if not _list_refused(found):
        return found
    yield 0.5
    faults, culprits = yield from _find_culprits(laid, found, estimate)
    if set(_list_refused(found)) | set(culprits) < set(laid):
        faults.append("the others can be placed")
    raise AlignmentError(
        "; ".join(faults),
        f"give all stems of the set, since without some the others are harder to place; leave out "
        f"{', '.join(culprits)}; or close the sum with the stems as they lie: --as-is",
    )


def _list_refused(found: Mapping[str, Alignment]) -> list[str]:
    return [name for name, one in found.items() if one.decision is Decision.REFUSED]


def _find_culprits(
    laid: Mapping[str, _Laid],
    found: dict[str, Alignment],
    estimate: Callable[[Collection[str]], dict[str, Alignment]],
) -> Generator[float, None, tuple[list[str], list[str]]]:
    """Return clauses that say what is wrong, and the stems without which all others can be placed.

    Stems are placed together, so that one which is not in the mixture can spoil what is told of another.
    Leaving out one at a time tells them apart: the one whose absence leaves the fewest refused goes, until
    nobody's absence helps another; whoever is refused then is so on its own account.
    """
    faults: list[str] = []
    culprits: list[str] = []
    twins = _find_twins(laid, _list_refused(found))
    for one, other in twins:
        faults.append(
            f"{one} ({str(laid[one].path)!r}) and {other} ({str(laid[other].path)!r}) hold the same thing"
        )
        culprits.append(other)
    if twins:
        found = estimate([name for name in found if name not in culprits])
    while refused := _list_refused(found):
        without: dict[str, dict[str, Alignment]] = {}
        for name in refused if len(refused) > 1 else ():
            yield 0.5
            without[name] = estimate([other for other in found if other != name])
        left = {name: len(_list_refused(others)) for name, others in without.items()}
        refused.sort(key=lambda name: left.get(name, 0))
        is_helped = bool(left) and left[refused[0]] < len(refused) - 1
        out = refused[:1] if is_helped else refused
        # What is not in the mixture may make another's place uncertain even by its absence.
        strangers = [name for name in out if found[name].reason.startswith(NOT_IN_MIXTURE)]
        unsure = [name for name in out if strangers and name not in strangers]
        for name in strangers or out:
            faults.append(f"{name} ({str(laid[name].path)!r}) cannot be placed: {found[name].reason}")
            culprits.append(name)
        if unsure:
            faults.append(f"{', '.join(unsure)} cannot be judged before that")
        if not is_helped:
            break
        found = without[refused[0]]
    return faults, culprits


def _find_twins(laid: Mapping[str, _Laid], refused: Collection[str]) -> list[tuple[str, str]]:
    """Return pairs, one of them in ``refused``, of which the second holds what the first does."""
    out: dict[str, str] = {}
    for one, other in combinations(laid, 2):
        is_in_doubt = one in refused or other in refused
        if is_in_doubt and one not in out and other not in out and _is_twin(laid[one], laid[other]):
            out[other] = one
    return [(one, other) for other, one in out.items()]


def _is_twin(one: _Laid, other: _Laid) -> bool:
    """Tell whether both correlate by more than `_SAME` at some lag within the reach, in either polarity."""
    frames = max(one.planes.frames, other.planes.frames)
    blocks = range(0, frames, _TWIN_FRAMES)
    levels = [float(np.sum(one.read(start, _TWIN_FRAMES) ** 2)) for start in blocks]
    if not any(levels):
        return False
    loudest = blocks[int(np.argmax(levels))]
    piece = one.read(loudest, _TWIN_FRAMES)
    around = other.read(loudest - REACH_FRAMES, _TWIN_FRAMES + 2 * REACH_FRAMES)
    likeness = np.sum(oaconvolve(around, piece[:, ::-1], mode="valid", axes=1), axis=0)
    lag = int(np.argmax(np.abs(likeness))) - REACH_FRAMES
    cross = power = other_power = 0.0
    for start in blocks:
        left, right = one.read(start, _TWIN_FRAMES), other.read(start + lag, _TWIN_FRAMES)
        cross += float(np.sum(left * right))
        power += float(np.sum(left**2))
        other_power += float(np.sum(right**2))
    return abs(cross) > _SAME * sqrt(power * other_power)


def _apply(laid: Mapping[str, _Laid], found: Mapping[str, Alignment]) -> _PlacedStems:
    placed = []
    for name, stem in laid.items():
        one = found.get(name)
        is_moved = one is not None and one.is_applied
        read = advance(stem.read, one.delay_frames, one.polarity) if one and is_moved else stem.read
        placed.append(_Placed(name, read))
    return _PlacedStems(placed)


def _tell_ends(
    laid: Mapping[str, _Laid], found: Mapping[str, Alignment], info: audio_io.SourceInfo
) -> Generator[str, None, None]:
    """Yield per stem what was cut off and where silence was added, in frames of the mixture."""
    for name, stem in laid.items():
        one = found.get(name)
        delay = one.delay_frames if one is not None and one.is_applied else 0.0
        head, tail = round(delay), stem.planes.frames - round(delay) - info.frames
        parts = [
            f"{abs(count)} frame{'s' * (abs(count) > 1)} {verb} {place}"
            for count, place in ((head, "at its start"), (tail, "at its end"))
            for verb in ("cut off" if count > 0 else "of silence added",)
            if count
        ]
        if parts:
            yield f"{name}: {', '.join(parts)}"


def _entry(name: str, one: Alignment) -> manifest.AlignmentEntry:
    return manifest.AlignmentEntry(
        name=name,
        delay_frames=float(one.delay_frames),
        delay_se=float(one.delay_se) if isfinite(one.delay_se) else None,
        polarity=one.polarity,
        decision=one.decision.value,
        reason=one.reason,
    )
