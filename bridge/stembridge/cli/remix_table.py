"""What a remix changed and what it left alone, on stdout."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from stembridge.cli.result_table import format_rows
from stembridge.manifest import RemixEntry
from stembridge.mixdown.measuring import REPORT_NAME
from stembridge.preset_words import describe_changes
from stembridge.presets import Preset
from stembridge.stem_table import claim_sentence, measure_file, measure_stems
from stembridge.text import one_line
from stembridge.types import SplitResult


def print_remix(result: SplitResult, preset: Preset, owner: str) -> None:
    """Print what was changed and what was not, the files with peak and loudness, and where they lie.

    Parameters
    ----------
    owner : as `stembridge.presets.name_owner` gives it
    """
    folder = Path(result.folder)
    manifest, rows = measure_stems(folder)
    assert manifest.remix is not None
    if manifest.mixture is not None:
        rows = (*rows, measure_file(folder, manifest.mixture.name, manifest.mixture.file))
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print(f"{one_line(Path(manifest.source.path).name)}, {one_line(manifest.remix.preset)}{owner}")
    for line in list_changes(preset, manifest.remix):
        print(one_line(line))
    for line in format_rows(manifest, rows, width):
        print(line)
    print(claim_sentence(manifest))
    if manifest.listening:
        shown = ", ".join(one_line(entry.file) for entry in manifest.listening)
        print(f"to listen to, without the guarantee: {shown}")
    for warning in result.warnings:
        # Those files have just been told of.
        if not any(repr(entry.file) in warning for entry in manifest.listening):
            print(f"warning: {one_line(warning)}")
    report = folder / REPORT_NAME
    for path in ([report] if report.is_file() else []) + [folder]:
        print(one_line(str(path)))


def list_changes(preset: Preset, remix: RemixEntry) -> Iterator[str]:
    """Yield a line for each thing that was done, and one for what was left alone."""
    changes = list(describe_changes(preset))
    yield f"changed: {'; '.join(changes) or 'nothing'}"
    yield f"untouched, bit for bit: {', '.join(remix.untouched) or 'no stem'}"
    if remix.gain_db:
        yield f"all of it {remix.gain_db:+.2f} dB, to be as loud as the original"
    if remix.reduction_db:
        yield f"the ceiling takes off {remix.reduction_db:.1f} dB at most"
