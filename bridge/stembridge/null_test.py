"""The null test: do the files of a result sum to the original, and does every claim of its manifest hold?

Everything is recomputed from the written files, block by block: memory does not depend on their length.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import chain
from math import inf, log10
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stembridge import audio_io
from stembridge.dsp import grid
from stembridge.errors import SourceError
from stembridge.manifest import FILE_NAME, RESIDUAL, Claims, Manifest, StemEntry, is_sealed, read_manifest
from stembridge.stem_file import StemReader, hash_file
from stembridge.types import Region, ResidualPolicy

Signal = NDArray[np.float64]

ORDERS = 6
ALL_ORDERS = 120

_LEVEL_TOLERANCE_DB = 0.001
_WITH_RESIDUAL = (ResidualPolicy.OWN, ResidualPolicy.HF_ENVELOPE)


class Reference(StrEnum):
    """What the sum was held against."""

    ORIGINAL = "original"
    MIXTURE = "mixture"
    HASH = "sha256_pcm"


@dataclass(frozen=True, slots=True)
class NullReport:
    """What the null test found.

    Parameters
    ----------
    reference : the original, the decoded mixture of a lossy source, or sha256_pcm where neither is there
    remark : why the original could not be used, or ''
    claims : the claims as recomputed from the files
    error_f64, error_f32 : largest error of any sum of that width, full scale = 1; None: not summed
    orders_f64, orders_f32 : sums per width: orders from left to right, and a balanced tree
    first_bad_frame : first frame whose 64-bit sum is not the original; None: there is none, or no original
    failures : one line per thing that does not hold
    """

    folder: str
    sample_rate: int
    channels: int
    frames: int
    files: tuple[str, ...]
    reference: Reference
    remark: str
    claims: Claims | None
    error_f64: float | None
    error_f32: float | None
    orders_f64: int
    orders_f32: int
    first_bad_frame: int | None
    failures: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return not self.failures


def decibels(amplitude: float) -> float:
    """Return ``amplitude`` in dB re full scale, -inf for 0."""
    return 20 * log10(amplitude) if amplitude > 0 else -inf


def level_db(energy: float, reference_energy: float) -> float | None:
    """Return ``energy`` in dB re ``reference_energy``, None where one of them is 0."""
    return 10 * log10(energy / reference_energy) if energy > 0 and reference_energy > 0 else None


def check_result(folder: Path | str, *, orders: int = ORDERS) -> NullReport:
    """Re-read a result folder and return what holds and what does not.

    64-bit sums on a grid are summed as listed and reversed, those at full float precision in ``orders``
    orders and as a tree. 32-bit sums are summed for real in ``orders`` orders (as listed, reversed and a
    seeded draw; `ALL_ORDERS` takes every order of up to five files) and as a balanced tree. That the orders
    not summed agree too is proven, not tried: every value is checked to be on the grid and the part-sums P, N
    to be small enough, and then no order can round (see `stembridge.dsp.grid`).

    Raises
    ------
    SourceError : the folder holds no valid manifest
    """
    document = read_manifest(Path(folder))
    check = check_files(Path(folder), document, orders=orders)
    while True:
        try:
            next(check)
        except StopIteration as stop:
            report: NullReport = stop.value
            break
    if not is_sealed(Path(folder)):
        broken = f"{FILE_NAME!r} is not what was written: its seal is broken"
        report = replace(report, failures=(broken, *report.failures))
    return report


def check_files(
    folder: Path, manifest: Manifest, *, orders: int = ORDERS, use_original: bool = True
) -> Generator[float, None, NullReport]:
    """Do what `check_result` says, yield the fraction that is done, and return the report.

    A remix sums to itself: its original is not looked for.

    Parameters
    ----------
    use_original : False holds the sum against sha256_pcm without looking for the original
    """
    region = manifest.source.region
    tally = _Tally(manifest, orders)
    with ExitStack() as stack:
        readers = [
            reader
            for entry in manifest.stems
            if (reader := _open_stem(folder, entry, manifest, tally, stack))
        ]
        if len(readers) < len(manifest.stems):
            return tally.report(folder)
        reference = _open_reference(folder, manifest, tally, stack, use_original)
        for start in range(0, region.frames, audio_io.BLOCK_FRAMES):
            count = min(audio_io.BLOCK_FRAMES, region.frames - start)
            try:
                blocks = [reader.read(count) for reader in readers]
                original = next(reference, None)
            except SourceError as error:
                tally.failures.append(error.message)
                return tally.report(folder)
            if not all(block.shape[1] == count and np.isfinite(block).all() for block in blocks):
                tally.failures.append(f"a file ends early or holds NaN or Inf after frame {start}")
                return tally.report(folder)
            tally.add(blocks, original)
            yield (start + count) / region.frames
        if tally.reference is Reference.ORIGINAL and not tally.is_reference_right():
            # What was found was measured against another file: begin again without it.
            report = yield from check_files(folder, manifest, orders=orders, use_original=False)
            return replace(report, remark=f"{manifest.source.path!r} is not the original any more")
        tally.compare_hashes(readers)
    for entry in (*manifest.stems, *((manifest.mixture,) if manifest.mixture else ())):
        tally.compare_file(folder, entry)
        yield 1.0
    return tally.report(folder)


def _open_stem(
    folder: Path, entry: StemEntry, manifest: Manifest, tally: _Tally, stack: ExitStack
) -> StemReader | None:
    """Return a reader for ``entry``, or None after noting why there is none."""
    source = manifest.source
    path = folder / entry.file
    expected = (source.sample_rate, source.channels, source.region.frames, entry.subtype)
    try:
        with path.open("rb"):
            reader = stack.enter_context(StemReader(path))
        if (reader.sample_rate, reader.channels, reader.frames, reader.subtype) == expected:
            return reader
        tally.failures.append(
            f"{entry.file!r} is not {source.region.frames} frames of {source.channels} channels "
            f"at {source.sample_rate} Hz as {entry.subtype}, as it was written"
        )
    except FileNotFoundError:
        tally.failures.append(f"{entry.file!r} is missing")
    except OSError as error:
        tally.failures.append(f"{entry.file!r} cannot be read: {error.strerror}")
    except SourceError as error:
        tally.failures.append(error.message)
    return None


def _open_reference(
    folder: Path, manifest: Manifest, tally: _Tally, stack: ExitStack, use_original: bool
) -> Iterator[Signal]:
    source = manifest.source
    region = Region(source.region.start, source.region.frames)
    if manifest.mixture:
        reader = _open_stem(folder, manifest.mixture, manifest, tally, stack)
        if reader:
            tally.reference = Reference.MIXTURE
            tally.mixture_reader = reader
            return _read_all(reader, region.frames)
    elif use_original and manifest.remix is None:
        try:
            info = audio_io.probe(source.path)
            found = (info.sample_rate, info.channels, info.frames, info.subtype)
            if found == (source.sample_rate, source.channels, source.frames, source.subtype):
                tally.reference = Reference.ORIGINAL
                return _skip_unreadable(audio_io.read_blocks(info, region))
            tally.remark = f"{source.path!r} is not the original any more"
        except SourceError as error:
            tally.remark = error.message
    return iter(())


def _read_all(reader: StemReader, frames: int) -> Iterator[Signal]:
    for start in range(0, frames, audio_io.BLOCK_FRAMES):
        yield reader.read(min(audio_io.BLOCK_FRAMES, frames - start)).astype(np.float64)


def _skip_unreadable(blocks: Iterator[Signal]) -> Iterator[Signal]:
    """End early where the original cannot be read on; the hash then tells that it is not the original."""
    try:
        yield from blocks
    except SourceError:
        return


@dataclass
class _Tally:
    """What has been found up to the frame that comes next."""

    manifest: Manifest
    order_limit: int
    failures: list[str] = field(default_factory=list)
    reference: Reference = Reference.HASH
    remark: str = ""
    mixture_reader: StemReader | None = None
    frames: int = 0
    is_hashed: bool = False
    positive_max: float = 0.0
    negative_max: float = 0.0
    inexact_samples: int = 0
    inexact_error: float = 0.0
    error_f64: float = 0.0
    error_f32: float = 0.0
    first_bad_frame: int | None = None
    reference_energy: float = 0.0
    residual_energy: float = 0.0
    off_grid: set[str] = field(default_factory=set)
    not_mono: set[str] = field(default_factory=set)
    sum_hash: audio_io.PcmHash = field(default_factory=audio_io.PcmHash)
    reference_hash: audio_io.PcmHash = field(default_factory=audio_io.PcmHash)

    def __post_init__(self) -> None:
        files = len(self.manifest.stems)
        bits = self.manifest.grid.residual_bits
        self.orders_f32 = grid.sum_orders(files, self.order_limit)
        straight = tuple(range(files))
        on_grid = dict.fromkeys([straight, straight[::-1]])
        self.orders_f64 = tuple(on_grid) if bits is not None else grid.sum_orders(files)

    def add(self, blocks: list[NDArray[np.float32] | NDArray[np.float64]], reference: Signal | None) -> None:
        """Take in the next block of every file and of the reference, all (channels, frames)."""
        entries, grid_entry = self.manifest.stems, self.manifest.grid
        bits = [grid_entry.stem_bits] * (len(blocks) - 1) + [grid_entry.residual_bits]
        # A damaged file may hold anything: what overflows is reported as an error of the sum.
        with np.errstate(all="ignore"):
            values = [block.astype(np.float64, copy=False) for block in blocks]
            for entry, value, value_bits in zip(entries, values, bits, strict=True):
                if value_bits is not None and not grid.is_on_grid(value, value_bits):
                    self.off_grid.add(entry.file)
                if entry.name in self.manifest.mono and not self._is_mono(value):
                    self.not_mono.add(entry.file)
            total = grid.sum_in_order(values, range(len(values)))
            self.sum_hash.update(total)
            if reference is not None and reference.shape == total.shape:
                self.reference_hash.update(reference)
                wrong = (total != reference).any(axis=0)
                if self.first_bad_frame is None and wrong.any():
                    self.first_bad_frame = self.frames + int(np.argmax(wrong))
            else:
                reference = total
            self._add_claims(values, reference)
            self._add_errors(values, blocks, reference)
        self.reference_energy += grid.sum_squares(reference)
        self.residual_energy += grid.sum_squares(values[-1])
        self.frames += total.shape[1]

    def _is_mono(self, value: Signal) -> bool:
        groups = self.manifest.source.groups
        return all(np.array_equal(value[group[0]], value[group[-1]]) for group in groups)

    def _add_claims(self, values: list[Signal], reference: Signal) -> None:
        positive, negative = grid.part_sums(values)
        self.positive_max = max(self.positive_max, float(positive.max()))
        self.negative_max = max(self.negative_max, float(negative.max()))
        if self.manifest.grid.residual_bits is None:
            inexact = int(np.count_nonzero(grid.find_inexact(reference, values, positive, negative)))
            self.inexact_samples += inexact
            if inexact:
                self.inexact_error = max(self.inexact_error, grid.measure_error(values, reference))

    def _add_errors(
        self, values: list[Signal], blocks: list[NDArray[np.float32] | NDArray[np.float64]], reference: Signal
    ) -> None:
        for order in self.orders_f64:
            self.error_f64 = max(self.error_f64, _error(grid.sum_in_order(values, order), reference))
        narrow = [block.astype(np.float32, copy=False) for block in blocks]
        narrow_reference = reference.astype(np.float32)
        is_narrow = bool(np.array_equal(narrow_reference, reference))
        totals = (grid.sum_in_order(narrow, order) for order in self.orders_f32)
        for total in chain(totals, (grid.sum_pairwise(narrow),)):
            if not (is_narrow and np.array_equal(total, narrow_reference)):
                self.error_f32 = max(self.error_f32, _error(total.astype(np.float64), reference))

    def is_reference_right(self) -> bool:
        """Tell whether the reference has the samples that were split."""
        return self.reference_hash.hexdigest() == self.manifest.source.sha256_pcm

    def compare_hashes(self, readers: list[StemReader]) -> None:
        """Note every file that is not what the manifest says, and whether the sum is the original."""
        self.is_hashed = True
        for entry, reader in zip(self.manifest.stems, readers, strict=True):
            if reader.sha256 != entry.sha256:
                self.failures.append(f"{entry.file!r} is not what was written: its sha256 differs")
        mixture = self.manifest.mixture
        if mixture and self.mixture_reader:
            if self.mixture_reader.sha256 != mixture.sha256:
                self.failures.append(f"{mixture.file!r} is not what was written: its sha256 differs")
            if not self.is_reference_right():
                self.failures.append(f"{mixture.file!r} is not the mixture: its sha256_pcm differs")
        if self.reference is Reference.HASH and self.sum_hash.hexdigest() != self.manifest.source.sha256_pcm:
            whole = "original" if self.manifest.remix is None else "remix"
            self.failures.append(
                f"the files do not sum to the {whole}: sha256_pcm differs"
                if self.manifest.claims.exact_f64
                else "the null cannot be proven without the original, since this set is not exact"
            )

    def compare_file(self, folder: Path, entry: StemEntry) -> None:
        """Note a file of which any byte is not what was written."""
        try:
            with (folder / entry.file).open("rb") as file:
                is_as_written = hash_file(file) == entry.sha256_file
        except OSError as error:
            self.failures.append(f"{entry.file!r} cannot be read: {error.strerror}")
            return
        if not is_as_written:
            self.failures.append(f"{entry.file!r} is not what was written: its sha256_file differs")

    def report(self, folder: Path) -> NullReport:
        """Return the report, with every claim held against what was found."""
        source = self.manifest.source
        claims = self._find_claims() if self.is_hashed else None
        if claims:
            self._compare_claims(claims)
        return NullReport(
            folder=str(folder),
            sample_rate=source.sample_rate,
            channels=source.channels,
            frames=source.region.frames,
            files=tuple(entry.file for entry in self.manifest.stems),
            reference=self.reference,
            remark=self.remark,
            claims=claims,
            error_f64=max(self.error_f64, self.inexact_error) if claims else None,
            error_f32=self.error_f32 if claims else None,
            orders_f64=len(self.orders_f64) + (self.manifest.grid.residual_bits is None),
            orders_f32=len(self.orders_f32) + 1,
            first_bad_frame=self.first_bad_frame,
            failures=tuple(self.failures),
        )

    def _find_claims(self) -> Claims:
        bits = self.manifest.grid.residual_bits
        if bits is None:
            exact_f64, exact_f32 = self.inexact_samples == 0, False
        else:
            exact_f64 = grid.claims_float64(bits, self.positive_max, self.negative_max)
            exact_f32 = all(
                entry.subtype != "DOUBLE" for entry in self.manifest.stems
            ) and grid.claims_float32(bits, self.positive_max, self.negative_max)
        return Claims(
            exact_f64=exact_f64 and not self.off_grid,
            exact_f32_any_order=exact_f32 and not self.off_grid,
            positive_max=self.positive_max,
            negative_max=self.negative_max,
            max_error=self.inexact_error,
            inexact_samples=self.inexact_samples,
        )

    def _compare_claims(self, found: Claims) -> None:
        claimed = self.manifest.claims
        self.failures += [
            f"{file!r} is off the grid that the manifest states" for file in sorted(self.off_grid)
        ]
        self.failures += [f"{file!r} is not mono as stated" for file in sorted(self.not_mono)]
        for name in Claims.__slots__:
            if getattr(claimed, name) != getattr(found, name):
                self.failures.append(
                    f"claim {name} = {getattr(claimed, name)} does not hold: {getattr(found, name)} was found"
                )
        if claimed.exact_f64 and self.error_f64 != 0:
            where = "" if self.first_bad_frame is None else f", first at frame {self.first_bad_frame}"
            self.failures.append(f"64-bit sums are off by up to {decibels(self.error_f64):.1f} dBFS{where}")
        if claimed.exact_f32_any_order and self.error_f32 != 0:
            self.failures.append(f"32-bit sums are off by up to {decibels(self.error_f32):.1f} dBFS")
        if not claimed.exact_f64 and not self.error_f64 <= claimed.max_error:
            self.failures.append(
                f"64-bit sums are off by {self.error_f64:g}, {claimed.max_error:g} is claimed"
            )
        # A remix may leave the residual out, or go without stems at all.
        has_residual = self.manifest.remix is None or self.manifest.stems[-1].name == RESIDUAL
        if self.manifest.residual.policy not in _WITH_RESIDUAL or not has_residual:
            return
        level = level_db(self.residual_energy, self.reference_energy)
        stated = self.manifest.residual.level_db
        if (level is None) != (stated is None) or abs((level or 0.0) - (stated or 0.0)) > _LEVEL_TOLERANCE_DB:
            self.failures.append(f"residual level_db = {stated} does not hold: {level} was found")


def _error(total: Signal, reference: Signal) -> float:
    difference = np.abs(total - reference)
    return float(difference.max()) if np.isfinite(difference).all() else inf
