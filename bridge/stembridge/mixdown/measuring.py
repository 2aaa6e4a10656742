"""What a report shows of a remix, measured on the written files against the set that they come from."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np

from stembridge.dsp import grid
from stembridge.manifest import Manifest
from stembridge.mixdown.files import WrittenRemix
from stembridge.mixdown.meters import RemixFigures, SignalMeter, StemFigures
from stembridge.mixdown.mixing import Mix
from stembridge.mixdown.report import render_report
from stembridge.mixdown.side_by_side import read_ahead
from stembridge.stem_file import StemReader

REPORT_NAME = "report.html"

_WHOLES = ("original", "remix", "difference")


def measure_remix(
    mix: Mix, reduction_db: float, touching: tuple[str, ...], written: WrittenRemix, work: Path
) -> Generator[float, None, RemixFigures]:
    """Return the figures of a written remix; yield the fraction that is done.

    All outlines are as long as the remix, so that they share a time axis; levels are those of the original's
    length.

    Parameters
    ----------
    reduction_db : the most that the ceiling takes off
    touching : what was done to all stems alike
    work : folder with the written files
    """
    source = mix.source

    def make_meter(*, has_true_peak: bool = False) -> SignalMeter:
        return SignalMeter(
            source.channels,
            source.sample_rate,
            mix.frames,
            source.loudness_weights,
            level_frames=source.frames,
            has_true_peak=has_true_peak,
        )

    whole = {name: make_meter(has_true_peak=name != "difference") for name in _WHOLES}
    before = {name: make_meter() for name in source.names}
    after = {voice.name: make_meter() for voice in mix.voices if not mix.is_untouched(voice)}
    null_remix = null_untouched = 0.0
    position = 0
    with ExitStack() as stack:
        remix_file = stack.enter_context(StemReader(work / written.remix.file))
        files = [stack.enter_context(StemReader(work / entry.file)) for entry in written.stems]
        blocks = stack.enter_context(closing(read_ahead(mix.read(is_compared=True))))
        for block in blocks:
            if block.original is None:
                raise AssertionError("the original was not read")
            count = block.remix.shape[1]
            remix = remix_file.read(count).astype(np.float64)
            if files:
                delivered = [file.read(count).astype(np.float64) for file in files]
                error = grid.sum_in_order(delivered, range(len(delivered))) - remix
                null_remix = max(null_remix, float(np.abs(error).max(initial=0.0)))
            change = mix.find_change(block.tracks, block.stems)
            error = remix - (block.original + change)
            null_untouched = max(null_untouched, float(np.abs(error).max(initial=0.0)))
            whole["original"].add(block.original)
            whole["remix"].add(remix)
            whole["difference"].add(remix - block.original)
            for name, signal in block.stems.items():
                before[name].add(signal)
            for voice, track in zip(mix.voices, block.tracks, strict=True):
                if voice.name in after:
                    after[voice.name].add(track)
            position += count
            yield position / mix.frames
    figures = {name: meter.read() for name, meter in before.items()}
    heard = {voice.name: figures.get(voice.name) for voice in mix.voices}
    heard |= {name: meter.read() for name, meter in after.items()}
    names = dict.fromkeys((*source.names, *heard))
    return RemixFigures(
        original=whole["original"].read(),
        remix=whole["remix"].read(),
        difference=whole["difference"].read(),
        stems=tuple(
            StemFigures(name, figures.get(name), heard.get(name), name in heard and name not in after)
            for name in names
        ),
        null_remix=null_remix,
        null_untouched=null_untouched,
        reduction_db_max=reduction_db,
        touching=touching,
    )


def write_report(work: Path, document: Manifest, figures: RemixFigures) -> None:
    """Write the page that shows a remix beside its files, and flush it to the disk."""
    with (work / REPORT_NAME).open("x", encoding="utf-8") as file:
        file.write(render_report(document, figures))
        file.flush()
        os.fsync(file.fileno())
