"""The files of a remix: what each is called and how it is written, and what is claimed of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stembridge import audio_io, carried, disk, manifest, null_test
from stembridge.closing import BITS_OF_SUBTYPE, FLOAT_FORMAT, find_obstacle, has_room, name_format
from stembridge.dsp import grid
from stembridge.mixdown.mixing import Mix
from stembridge.mixdown.side_by_side import read_ahead
from stembridge.mixdown.source_set import SourceSet
from stembridge.mixdown.tracks import Voice
from stembridge.stem_file import StemWriter, hash_file, open_writer
from stembridge.stem_tag import StemTag
from stembridge.types import AUTO_FORMAT, DOUBLE_FORMAT, FILE_FORMATS, FileFormat

Signal = NDArray[np.float64]

_CONTAINERS = {".wav": "WAV", ".aiff": "AIFF", ".flac": "FLAC"}
_CEILING_HINT = "; a ceiling (--ceiling -1) keeps it below"
_MAX_LABEL_BYTES = 26
"""So that ' remix' still fits behind it into the 32 bytes of a stem's name."""


@dataclass(frozen=True, slots=True)
class RemixPlan:
    """What is to be delivered.

    Parameters
    ----------
    job_id : of the remix
    out : folder that gets the result folder
    label : of the preset, as names of files have it
    has_stems : every voice gets a file beside the remix
    format : a name of `FILE_FORMATS`, or `AUTO_FORMAT`
    file_names : as in `stembridge.types.RemixRequest`
    """

    job_id: str
    out: Path
    source: SourceSet
    label: str
    has_stems: bool
    format: str
    file_names: str

    @property
    def name(self) -> str:
        return manifest.source_name(self.source.document.source.path)

    @property
    def final(self) -> Path:
        return self.out / manifest.folder_name(self.name, self.label, self.job_id)

    def name_file(self, stem: str, suffix: str) -> str:
        """Return the name of a stem's file, or of the remix' own."""
        return manifest.file_name(
            self.name, stem, suffix, template=self.file_names, model=self.label, job_id=self.job_id
        )

    @property
    def stem_bits(self) -> int:
        """Grid of what is touched: that of the set, or a finer one where 16-bit stems become wider ones."""
        bits = self.source.document.grid.stem_bits
        asked = (
            BITS_OF_SUBTYPE.get(FILE_FORMATS[self.format].subtype, grid.STEM_BITS) if self._is_asked else 0
        )
        is_word = self.source.document.stems[0].subtype == "PCM_16"
        return max(bits, min(asked, grid.STEM_BITS)) if is_word else bits

    @property
    def _is_asked(self) -> bool:
        return self.format != AUTO_FORMAT

    def choose_format(
        self, entry: manifest.StemEntry | None, bits: int | None, frames: int, *, is_untouched: bool
    ) -> tuple[FileFormat, str]:
        """Return the format to begin with of a file, and why it is not the one that was asked for.

        Parameters
        ----------
        entry : the set's file that it is made of; None of what only the remix has
        bits : grid of its samples
        is_untouched : its samples are those of ``entry``
        """
        usual = next(
            (known for known in map(format_of, self.source.document.stems) if known != DOUBLE_FORMAT),
            FLOAT_FORMAT,
        )
        own = format_of(entry) if entry else usual
        if own == DOUBLE_FORMAT:
            if is_untouched:
                return own, ""
            own = usual
        chosen = FILE_FORMATS[self.format] if self._is_asked else own
        # What is too coarse becomes finer in its own container, and a float only where that will not do.
        finer = replace(chosen, subtype="PCM_24")
        kept = next(
            (one for one in (chosen, finer) if not self._find_obstacle(one, bits, frames)), FLOAT_FORMAT
        )
        if kept == chosen or not self._is_asked:
            return kept, ""
        written = "written as 32-bit float WAV" if kept == FLOAT_FORMAT else f"written as {name_format(kept)}"
        room = BITS_OF_SUBTYPE[chosen.subtype]
        if bits is not None and bits <= room:
            return kept, f"{self._find_obstacle(chosen, bits, frames)}: {written}"
        samples = "samples are floats" if bits is None else f"samples have {bits + 1} bits"
        source = self.source.document.source
        # Split into that format, the stems of a source that fits it fit as well.
        has_remedy = source.subtype in BITS_OF_SUBTYPE and BITS_OF_SUBTYPE[source.subtype] <= room
        remedy = f"; for {self.format} split with --format {self.format} first" if has_remedy else ""
        return kept, f"{self.format} is coarser than the set, whose {samples}: {written}{remedy}"

    def _find_obstacle(self, chosen: FileFormat, bits: int | None, frames: int) -> str:
        source = self.source
        return find_obstacle(
            chosen, bits, sample_rate=source.sample_rate, channels=source.channels, frames=frames
        )

    def name_remix(self, voices: Sequence[Voice]) -> str:
        """Return the remix' own name, which no stem beside it has, and which says nothing else."""
        taken = {manifest.sanitise_name(voice.name, 32).casefold() for voice in voices}
        taken |= {manifest.RESIDUAL, manifest.MIXTURE}
        candidates = [self.label, f"{self.label} remix", *(f"{self.label} {n}" for n in range(2, 1000))]
        return next(one for one in candidates if manifest.sanitise_name(one, 32).casefold() not in taken)


@dataclass(frozen=True, slots=True)
class WrittenRemix:
    """The files in the work folder and what was found while they were written.

    Parameters
    ----------
    remix : the remix' own file
    stems : the voices' files in the order of the sum; none where they were not asked for
    untouched : names of voices whose samples are the set's
    level_db : of the residual re remix, where it is the last file
    tags : texts that the set carries, by libsndfile's names
    """

    remix: manifest.StemEntry
    stems: tuple[manifest.StemEntry, ...]
    untouched: tuple[str, ...]
    sha256_pcm: str
    grid: manifest.GridEntry
    claims: manifest.Claims
    level_db: float | None
    remarks: tuple[str, ...]
    tags: Mapping[str, str]


def label_of(preset: Path) -> str:
    """Return what a preset's file is called in names of results."""
    return manifest.sanitise_name(preset.stem, _MAX_LABEL_BYTES)


def format_of(entry: manifest.StemEntry) -> FileFormat:
    """Return the format in which a file of a set stands."""
    suffix = Path(entry.file).suffix
    return FileFormat(_CONTAINERS[suffix], entry.subtype, suffix)


def write_remix(plan: RemixPlan, mix: Mix, work: Path) -> Generator[float, None, WrittenRemix]:
    """Write the remix, and its voices where they were asked for; yield the fraction that is done.

    What nothing touched is copied byte for byte where it has the format and the length that are wanted. What
    turns out not to fit the format it was begun in is written again in one that holds it: never clipped.

    Raises
    ------
    SourceError : a file of the set is not what was written
    ExactnessError : a sample is beyond the grid
    OutputError : the disk does not take the files
    """
    writing = _Writing(plan, mix, work)
    found = yield from writing.write_all()
    return found


def _tell_peak(peak: float) -> str:
    peak_db = null_test.decibels(peak)
    return f"{peak_db:+.1f} dBFS" if peak_db >= 0.05 or peak == 1.0 else f"{peak_db:+.1g} dBFS"


class _Output:
    """One file while it is written; what does not fit its format is noted, and the file given up."""

    def __init__(self, name: str, path: Path, file_format: FileFormat, writer: StemWriter) -> None:
        self.name = name
        self.path = path
        self.format = file_format
        self._writer = writer
        self._lowest = self._highest = 0.0
        self._is_narrow = True
        self._fits = True

    def write(self, values: Signal) -> None:
        self._lowest = min(self._lowest, float(values.min()))
        self._highest = max(self._highest, float(values.max()))
        has_word = self.format.subtype.startswith("PCM")
        fits = has_room(self.format.subtype, self._lowest, self._highest)
        # What an integer format has room for, a float32 holds.
        if self._is_narrow and not (has_word and fits):
            self._is_narrow = grid.fits_float32(values)
        if self.format == FLOAT_FORMAT:
            fits = self._is_narrow
        if self._fits and not fits:
            self._fits = False
            self.give_up()
        if self._fits:
            self._writer.write(values)

    def finish(self) -> None:
        if self._fits:
            self._writer.close()

    def give_up(self) -> None:
        self._writer.__exit__(ValueError, None, None)

    def widened(self) -> tuple[FileFormat, str]:
        """Return the format that holds all of it, and why it is not the one that it was begun in."""
        if self._fits:
            return self.format, ""
        if not self._is_narrow:
            return DOUBLE_FORMAT, f"{self.path.name!r} holds what no 32-bit float does: a 64-bit float WAV"
        return (
            FLOAT_FORMAT,
            f"{name_format(self.format)} does not hold {self.name}, which peaks at {_tell_peak(self.peak)}: "
            "written as 32-bit float WAV",
        )

    @property
    def peak(self) -> float:
        return max(-self._lowest, self._highest)

    @property
    def entry(self) -> manifest.StemEntry:
        writer = self._writer
        return manifest.StemEntry(
            self.name, self.path.name, self.format.subtype, writer.sha256, writer.sha256_file
        )


class _Tally:
    """What the claims of a remix rest on, found while its files are written."""

    def __init__(self, mix: Mix, has_stems: bool) -> None:
        self._bits = mix.bits
        self._has_stems = has_stems
        self._hash = audio_io.PcmHash()
        self._positive_max = self._negative_max = self._max_error = 0.0
        self._inexact_samples = 0
        self._energy = self._last_energy = 0.0

    def add(self, tracks: Sequence[Signal], remix: Signal) -> None:
        self._hash.update(remix)
        files = tracks if self._has_stems else [remix]
        positive, negative = grid.part_sums(files)
        self._positive_max = max(self._positive_max, float(positive.max()))
        self._negative_max = max(self._negative_max, float(negative.max()))
        if self._bits is None:
            inexact = int(np.count_nonzero(grid.find_inexact(remix, files, positive, negative)))
            self._inexact_samples += inexact
            if inexact:
                self._max_error = max(self._max_error, grid.measure_error(files, remix))
        self._energy += grid.sum_squares(remix)
        self._last_energy += grid.sum_squares(files[-1])

    @property
    def sha256_pcm(self) -> str:
        return self._hash.hexdigest()

    @property
    def level_db(self) -> float | None:
        return null_test.level_db(self._last_energy, self._energy)

    def claims(self, files: Sequence[manifest.StemEntry]) -> manifest.Claims:
        bits = self._bits
        is_narrow = all(entry.subtype != "DOUBLE" for entry in files)
        return manifest.Claims(
            exact_f64=(
                self._inexact_samples == 0
                if bits is None
                else grid.claims_float64(bits, self._positive_max, self._negative_max)
            ),
            exact_f32_any_order=bits is not None
            and is_narrow
            and grid.claims_float32(bits, self._positive_max, self._negative_max),
            positive_max=self._positive_max,
            negative_max=self._negative_max,
            max_error=self._max_error,
            inexact_samples=self._inexact_samples,
        )


class _Writing:
    """One remix being written."""

    def __init__(self, plan: RemixPlan, mix: Mix, work: Path) -> None:
        self._plan = plan
        self._mix = mix
        self._work = work
        self._remarks: list[str] = []
        first = plan.source.document.stems[0]
        self._carried = carried.without_stem(
            carried.read_carried(str(plan.source.folder / first.file)), first.name
        )
        self._remix_name = plan.name_remix(mix.voices if plan.has_stems else ())
        self._voices = {voice.name: voice for voice in mix.voices} if plan.has_stems else {}

    def write_all(self) -> Generator[float, None, WrittenRemix]:
        formats = self._choose_formats()
        copied = {
            name: voice for name, voice in self._voices.items() if self._is_copied(voice, formats[name])
        }
        pending = {name: chosen for name, chosen in formats.items() if name not in copied}
        entries: dict[str, manifest.StemEntry] = {}
        tally: _Tally | None = None
        while pending:
            outputs, found = yield from self._write(pending)
            # The samples are the same whatever is written: the first pass has seen them all.
            tally = tally or found
            pending = {}
            for output in outputs:
                chosen, remark = output.widened()
                if chosen == output.format:
                    entries[output.name] = output.entry
                    if output.name == self._remix_name:
                        self._tell_overs(output)
                    continue
                pending[output.name] = chosen
                if output.name == self._remix_name and chosen == FLOAT_FORMAT:
                    remark += _CEILING_HINT
                self._remarks.append(remark)
                with disk.writing(self._plan.out):
                    output.path.unlink()
        for voice in copied.values():
            if voice.entry is not None:
                entries[voice.name] = self._copy(voice.entry)
            yield 1.0
        if tally is None:
            raise AssertionError("a remix has a file of its own")
        return self._conclude(entries, tally)

    def _tell_overs(self, output: _Output) -> None:
        """Say of a finished file that it goes above full scale, where that has not been said yet."""
        if output.peak <= 1.0 or any(_CEILING_HINT in remark for remark in self._remarks):
            return
        width = "64-bit" if output.format == DOUBLE_FORMAT else "32-bit"
        self._remarks.append(
            f"{output.path.name!r} peaks at {_tell_peak(output.peak)}, kept in {width} float{_CEILING_HINT}"
        )

    def _choose_formats(self) -> dict[str, FileFormat]:
        mix, plan = self._mix, self._plan
        formats = {}
        for name, voice in ((self._remix_name, None), *self._voices.items()):
            is_finest = voice is None or voice is mix.voices[-1]
            bits = mix.bits if is_finest else plan.stem_bits
            formats[name], remark = plan.choose_format(
                voice.entry if voice else None,
                bits,
                mix.frames,
                is_untouched=voice is not None and mix.is_untouched(voice),
            )
            if remark:
                self._remarks.append(remark)
        return formats

    def _is_copied(self, voice: Voice, chosen: FileFormat) -> bool:
        is_same = self._mix.is_untouched(voice) and self._mix.frames == self._plan.source.frames
        return is_same and voice.entry is not None and format_of(voice.entry) == chosen

    def _copy(self, entry: manifest.StemEntry) -> manifest.StemEntry:
        name = self._plan.name_file(entry.name, Path(entry.file).suffix)
        with disk.writing(self._plan.out):
            path = self._work / name
            shutil.copyfile(self._plan.source.folder / entry.file, path)
            with path.open("rb+") as file:
                os.fsync(file.fileno())
                is_same = hash_file(file) == entry.sha256_file
        if not is_same:
            raise self._plan.source.error_of(entry, "its sha256_file differs")
        return replace(entry, file=name)

    def _write(self, formats: dict[str, FileFormat]) -> Generator[float, None, tuple[list[_Output], _Tally]]:
        mix, out = self._mix, self._plan.out
        tally = _Tally(mix, self._plan.has_stems)
        position = 0
        with ExitStack() as stack:
            outputs = []
            for name, chosen in formats.items():
                with disk.writing(out):
                    output = self._open(name, chosen)
                # Does nothing once the file is finished.
                stack.callback(output.give_up)
                outputs.append(output)
            blocks = stack.enter_context(closing(read_ahead(mix.read())))
            for block in blocks:
                tracks = dict(zip((voice.name for voice in mix.voices), block.tracks, strict=True))
                values = {**(tracks if self._voices else {}), self._remix_name: block.remix}
                with disk.writing(out):
                    for output in outputs:
                        output.write(values[output.name])
                tally.add(block.tracks, block.remix)
                position += block.remix.shape[1]
                yield position / mix.frames
            for output in outputs:
                with disk.writing(out):
                    output.finish()
                yield 1.0
        return outputs, tally

    def _open(self, name: str, chosen: FileFormat) -> _Output:
        plan, source = self._plan, self._plan.source
        entry = source.document.source
        tag = StemTag(
            job=plan.job_id,
            stem=name,
            source=entry.sha256_pcm,
            start=entry.region.start,
            frames=self._mix.frames,
            rate=source.sample_rate,
        )
        chunks, remarks = carried.choose_chunks(
            self._carried,
            chosen,
            tag,
            region_start=0,
            frames=source.frames,
            channels=source.channels,
            channel_mask=source.channel_mask,
        )
        self._remarks += remarks
        path = self._work / plan.name_file(name, chosen.suffix)
        writer = open_writer(
            path,
            chosen,
            sample_rate=source.sample_rate,
            channels=source.channels,
            frames=self._mix.frames,
            channel_mask=source.channel_mask,
            chunks=chunks,
            tags=carried.tags_of(self._carried.tags, name),
        )
        return _Output(name, path, chosen, writer)

    def _conclude(self, entries: dict[str, manifest.StemEntry], tally: _Tally) -> WrittenRemix:
        mix = self._mix
        stems = tuple(entries[name] for name in self._voices)
        remix = entries[self._remix_name]
        has_residual = bool(stems) and mix.voices[-1].name == manifest.RESIDUAL
        return WrittenRemix(
            remix=remix,
            stems=stems,
            untouched=tuple(voice.name for voice in mix.voices if mix.is_untouched(voice)),
            sha256_pcm=tally.sha256_pcm,
            grid=manifest.GridEntry(mix.stem_bits, mix.bits),
            claims=tally.claims(stems or (remix,)),
            level_db=tally.level_db if has_residual else None,
            remarks=tuple(dict.fromkeys(self._remarks)),
            tags=self._carried.tags,
        )
