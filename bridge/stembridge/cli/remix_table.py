"""What a remix changed and what it left alone, on stdout."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from stembridge.cli.result_table import GAP, format_rows
from stembridge.effects.chain import Chain, PluginEffect
from stembridge.effects.kinds import drop_neutral
from stembridge.manifest import RemixEntry
from stembridge.presets import Preset, StemChange
from stembridge.stem_table import claim_sentence, measure_file, measure_stems
from stembridge.text import count_cells, one_line
from stembridge.types import SplitResult

HEADER = ("stem", "change")
REPORT = "report.html"
UNTOUCHED = "untouched"


def print_remix(result: SplitResult, preset: Preset, stems: Sequence[str]) -> None:
    """Print what became of each of ``stems``, the files with peak and loudness, and where they lie."""
    folder = Path(result.folder)
    manifest, rows = measure_stems(folder)
    assert manifest.remix is not None
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print(f"{one_line(Path(manifest.source.path).name)}, {one_line(preset.name)}")
    for line in format_changes(preset, stems, manifest.remix):
        print(line)
    if manifest.mixture is not None:
        rows = (*rows, measure_file(folder, manifest.mixture.name, manifest.mixture.file))
    for line in format_rows(manifest, rows, width):
        print(line)
    print(claim_sentence(manifest))
    if manifest.listening:
        shown = ", ".join(one_line(entry.file) for entry in manifest.listening)
        print(f"to listen to, without the guarantee: {shown}")
    for note in (*manifest.remix.notes, *(f"warning: {text}" for text in result.warnings)):
        print(one_line(note))
    if (folder / REPORT).is_file():
        print(one_line(str(folder / REPORT)))
    print(one_line(str(folder)))


def format_changes(preset: Preset, stems: Sequence[str], remix: RemixEntry) -> Iterator[str]:
    """Yield the lines of a table: each stem, each send and the whole, with what was done to it."""
    rows = [HEADER, *((stem, describe_change(preset, stem)) for stem in stems)]
    for send in preset.sends:
        sources = ", ".join(f"{stem} {level:+g} dB" for stem, level in send.levels_db.items())
        rows.append(
            (send.name, f"new, of {sources}: {_describe(StemChange(send.gain_db, chain=send.chain))}")
        )
    whole = _describe_whole(preset, remix)
    if whole:
        rows.append(("all", whole))
    width = max(count_cells(one_line(name)) for name, _ in rows)
    for name, change in rows:
        shown = one_line(name)
        yield shown + " " * (width - count_cells(shown)) + GAP + one_line(change)


def describe_change(preset: Preset, stem: str) -> str:
    """Return in a few words what ``preset`` does to ``stem``."""
    change = preset.stems.get(stem, StemChange())
    has_solo = any(other.is_solo for other in preset.stems.values())
    if change.is_muted or (has_solo and not change.is_solo):
        return "muted"
    return _describe(change) or UNTOUCHED


def _describe(change: StemChange) -> str:
    parts = [_describe_chain(change.chain), f"{change.gain_db:+g} dB" if change.gain_db else ""]
    return ", ".join(filter(None, parts))


def _describe_chain(chain: Chain) -> str:
    audible = drop_neutral(chain)
    if not audible.effects:
        return ""
    names = [
        Path(effect.path).stem if isinstance(effect, PluginEffect) else effect.kind.replace("_", " ")
        for effect in audible.effects
    ]
    share = "" if audible.wet == 1 else f" ({audible.wet:.0%} wet)"
    return ", ".join(names) + share


def _describe_whole(preset: Preset, remix: RemixEntry) -> str:
    master = preset.master
    parts = [_describe_chain(master.chain)]
    if master.match:
        parts.append(f"{remix.gain_db:+.2f} dB to match the original ({master.match})")
    if master.ceiling_dbtp is not None:
        taken = f"took off {remix.reduction_db:.1f} dB at most" if remix.reduction_db else "not reached"
        parts.append(f"ceiling {master.ceiling_dbtp:g} dBTP: {taken}")
    return ", ".join(filter(None, parts))
