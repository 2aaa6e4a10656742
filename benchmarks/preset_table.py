"""What every shipped preset does to songs: level of each source, loudness, true peak, what is not touched.

The songs are synthetic, of six sources that are known: what a source is turned up or down by is read from
the remix alone, as its share in the least-squares sum of all sources. Their sets are what a separator would
leave: each stem holds `BLEED_DB` of everything else, and the residual closes the sum. Every preset promises
something by its name, `PROMISES`; it is measured, and the command ends with 1 where one is not kept, or a sum
is not exact.

    python benchmarks/preset_table.py [--seeds 300-301] [--seconds 5] [--json PATH] [--page PATH]
    python benchmarks/preset_table.py --set DIR...

``--set`` tells what the presets do to the stems of a finished set instead, such as a preview of a recording.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from preview_quality import parse_seeds
from report import write_report
from stembridge.catalog import SIX_SOURCES
from stembridge.conform import conform
from stembridge.dsp.loudness import LoudnessMeter
from stembridge.dsp.true_peak import TruePeakMeter
from stembridge.errors import PresetError
from stembridge.manifest import RESIDUAL, Manifest, read_manifest
from stembridge.mixdown.render import render_remix
from stembridge.presets import Preset, find_presets, read_preset
from stembridge.settings import Settings, load_settings
from stembridge.stages import run_to_end
from stembridge.synthesis import make_song
from stembridge.types import RemixRequest

Signal = NDArray[np.float64]

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "preset_table.json"
PAGE = ROOT / "docs" / "presets.md"

BLEED_DB = -34.0
FLOOR_DB = -60.0
"""Less is told as that: nobody hears it beside the rest."""
AUDIBLE_DB = 3.0


@dataclass(frozen=True, slots=True)
class Case:
    """A finished set; ``sources`` are what its song is made of, where that is known."""

    folder: Path
    manifest: Manifest
    stems: Mapping[str, Signal]
    sources: Mapping[str, Signal]

    @property
    def original(self) -> Signal:
        return np.asarray(np.sum(list(self.stems.values()), axis=0))


@dataclass(frozen=True, slots=True)
class Remix:
    """What one preset made of a case."""

    case: Case
    preset: Preset
    manifest: Manifest
    stems: Mapping[str, Signal]
    mix: Signal

    @property
    def rate(self) -> int:
        return self.case.manifest.source.sample_rate


# --- what is measured ------------------------------------------------------------------------------------


def to_db(power: float) -> float:
    """Return a ratio of powers in dB, `FLOOR_DB` at least."""
    return max(FLOOR_DB, 10 * np.log10(power)) if power > 0 else FLOOR_DB


def measure_levels(sources: Mapping[str, Signal], mix: Signal) -> dict[str, float]:
    """Return the level of each source in ``mix`` in dB re the source: least squares over all of them."""
    rows = np.stack([source.ravel() for source in sources.values()])
    shares = np.linalg.solve(rows @ rows.T, rows @ mix.ravel())
    return {name: to_db(share**2) for name, share in zip(sources, shares, strict=True)}


def measure_loudness(signal: Signal, rate: int) -> float:
    meter = LoudnessMeter(len(signal), rate)
    meter.add(signal)
    return meter.read()


def measure_true_peak(signal: Signal) -> float:
    meter = TruePeakMeter(len(signal), 16)
    meter.add(signal)
    return to_db(meter.read() ** 2)


def measure_band(signal: Signal, rate: int, low_hz: float, high_hz: float) -> float:
    """Return the power of what lies between two frequencies."""
    spectrum = np.fft.rfft(signal)
    hz = np.fft.rfftfreq(signal.shape[1], 1 / rate)
    return float((np.abs(spectrum[:, (hz >= low_hz) & (hz < high_hz)]) ** 2).sum())


def find_pauses(source: Signal, rate: int) -> NDArray[np.bool_]:
    """Return the frames that have nothing of ``source`` within 0.2 s."""
    width = round(0.2 * rate)
    heard = np.pad(np.abs(source).max(axis=0) > 1e-4, width)
    counts = np.concatenate([[0], np.cumsum(heard)])
    return np.asarray(counts[2 * width + 1 :] == counts[: -2 * width - 1])


# --- what is promised ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Promise:
    """What a preset's name says that one hears; kept where the measured dB lie from ``low`` to ``high``."""

    words: str
    measure: Callable[[Remix], float]
    low: float = -np.inf
    high: float = np.inf

    def is_kept(self, value: float) -> bool:
        return self.low <= value <= self.high


def level_of(stem: str) -> Callable[[Remix], float]:
    return lambda remix: measure_levels(remix.case.sources, remix.mix)[stem]


def promise_level(stem: str, change_db: float, words: str) -> Promise:
    return Promise(words, level_of(stem), change_db - 0.05, change_db + 0.05)


def promise_gone(stem: str) -> Promise:
    return Promise(f"{stem} not heard", level_of(stem), high=-30.0)


def promise_alone(stem: str) -> Promise:
    """Promise that of all else no more is heard than the stem's bleed."""

    def measure(remix: Remix) -> float:
        levels = measure_levels(remix.case.sources, remix.mix)
        return max(level for name, level in levels.items() if name != stem) - levels[stem]

    return Promise(f"all else below {stem}", measure, high=BLEED_DB + 0.5)


def promise_middle_gone() -> Promise:
    """Promise that of the voice only what lies at the sides is left."""

    def measure(remix: Remix) -> float:
        middles = {name: source.sum(axis=0) for name, source in remix.case.sources.items()}
        return measure_levels(middles, remix.mix.sum(axis=0))["vocals"]

    return Promise("vocals not heard in the middle", measure, high=-30.0)


def promise_air() -> Promise:
    def measure(remix: Remix) -> float:
        after, before = (
            measure_band(stems["vocals"], remix.rate, 9000, 16000)
            for stems in (remix.stems, remix.case.stems)
        )
        return to_db(after / before)

    return Promise("vocals above 9 kHz", measure, low=AUDIBLE_DB)


def promise_dull() -> Promise:
    def measure(remix: Remix) -> float:
        after, before = (
            measure_band(mix, remix.rate, 6000, 20000) for mix in (remix.mix, remix.case.original)
        )
        return to_db(after / before)

    return Promise("all of it above 6 kHz", measure, high=-AUDIBLE_DB)


def promise_width() -> Promise:
    def measure(remix: Remix) -> float:
        spread = []
        for stems in (remix.stems, remix.case.stems):
            left, right = stems["other"]
            spread.append(np.sum((left - right) ** 2) / np.sum((left + right) ** 2))
        return to_db(spread[0] / spread[1])

    return Promise("sides of other against its middle", measure, low=AUDIBLE_DB)


def promise_clean() -> Promise:
    """Promise less of the others where a stem has nothing of its own; the stem with the least counts."""

    def measure(remix: Remix) -> float:
        changes = []
        for stem in ("vocals", "drums", "bass"):
            pauses = find_pauses(remix.case.sources[stem], remix.rate)
            if pauses.sum() > 0.2 * remix.rate:
                after, before = (
                    np.sum(stems[stem][:, pauses] ** 2) for stems in (remix.stems, remix.case.stems)
                )
                changes.append(to_db(after / before))
        return max(changes)

    return Promise("bleed in the pauses of drums, bass and vocals", measure, high=-AUDIBLE_DB)


PROMISES: dict[str, Promise] = {
    "vocals-up": promise_level("vocals", 3.0, "vocals 3 dB louder"),
    "vocals-down": promise_level("vocals", -3.0, "vocals 3 dB quieter"),
    "karaoke": promise_gone("vocals"),
    "karaoke-backing-vocals": promise_middle_gone(),
    "guide-vocal": promise_level("vocals", -16.48, "vocals at 15 %"),
    "acapella": promise_alone("vocals"),
    "instrumental": promise_gone("vocals"),
    "drum-break": promise_alone("drums"),
    "drumless": promise_gone("drums"),
    "bass-lift": promise_level("bass", 4.0, "bass 4 dB louder"),
    "vocal-air": promise_air(),
    "drum-punch": Promise("drums louder", level_of("drums"), low=AUDIBLE_DB),
    "lo-fi": promise_dull(),
    "wide-other": promise_width(),
    "clean-bleed": promise_clean(),
    **{f"practice-minus-{stem}": promise_gone(stem) for stem in SIX_SOURCES},
    **{
        f"practice-{stem}-at-{percent}": promise_level(
            stem, to_db((percent / 100) ** 2), f"{stem} at {percent} %"
        )
        for stem in SIX_SOURCES
        for percent in (25, 50, 75)
    },
}


# --- songs and remixes -----------------------------------------------------------------------------------


def make_case(place: Path, seed: int, seconds: float) -> Case:
    """Return a song's set; its guitar and its piano are the `other` of two more songs."""
    songs = [make_song(seed + 1000 * number, seconds=seconds) for number in range(3)]
    sources = dict(songs[0].stems) | {
        name: 0.5 * song.stems["other"] for name, song in zip(("guitar", "piano"), songs[1:], strict=True)
    }
    total = np.sum(list(sources.values()), axis=0)
    scale = 0.7 / np.abs(total).max()
    sources = {name: scale * source for name, source in sources.items()}
    place.mkdir()
    bleed = 10 ** (BLEED_DB / 20)
    rate = songs[0].sample_rate
    soundfile.write(place / "song.wav", scale * total.T, rate, subtype="PCM_24")
    for name, source in sources.items():
        estimate = (1 - bleed) * source + bleed * scale * total
        soundfile.write(place / f"{name}.wav", estimate.T, rate, subtype="FLOAT")
    files = {name: place / f"{name}.wav" for name in sources}
    made = run_to_end(conform(place / "song.wav", files, place / "sets", as_is=True, job_id="set"))
    return read_case(Path(made.folder), sources)


def read_case(folder: Path, sources: Mapping[str, Signal]) -> Case:
    document = read_manifest(folder)
    return Case(folder, document, read_stems(folder, document), sources)


def read_stems(folder: Path, document: Manifest) -> dict[str, Signal]:
    return {entry.name: read_file(folder / entry.file) for entry in document.stems}


def read_file(path: Path) -> Signal:
    return np.ascontiguousarray(soundfile.read(path, always_2d=True)[0].T)


def render(case: Case, name: str, settings: Settings, out: Path) -> Remix:
    """Return what a preset makes of a case."""
    preset = read_preset(find_presets(settings)[name])
    request = RemixRequest(str(case.folder), str(out), name, stems_out=True)
    folder = Path(run_to_end(render_remix(request, "table", settings)).folder)
    document = read_manifest(folder)
    assert document.mixture is not None
    return Remix(
        case, preset, document, read_stems(folder, document), read_file(folder / document.mixture.file)
    )


@dataclass(frozen=True, slots=True)
class Facts:
    """What holds of one remix beside its promise.

    Parameters
    ----------
    untouched, untouchable : files that are the set's bit for bit, of those that the preset does not name
    is_exact : the stems sum to the remix, and remix - original is the sum of the stems' changes, in float64
    """

    loudness_db: float
    true_peak_db: float
    untouched: int
    untouchable: int
    is_exact: bool


def find_facts(remix: Remix) -> Facts:
    case, document = remix.case, remix.manifest
    assert document.remix is not None
    has_solo = any(change.is_solo for change in remix.preset.stems.values())
    others = [stem for stem in case.stems if stem not in remix.preset.stems and not has_solo]
    is_moved = bool(document.remix.gain_db or document.remix.reduction_db)
    untouched = [
        stem for stem in others
        if np.array_equal(remix.stems[stem], case.stems[stem]) and stem in document.remix.untouched
    ]  # fmt: skip
    change = sum(remix.stems.values(), -case.original)
    return Facts(
        measure_loudness(remix.mix, remix.rate) - measure_loudness(case.original, remix.rate),
        measure_true_peak(remix.mix),
        len(untouched),
        0 if is_moved else len(others),
        bool(np.array_equal(sum(remix.stems.values()), remix.mix))
        and bool(np.array_equal(remix.mix - case.original, change)),
    )


def measure_preset(name: str, cases: Sequence[Case], settings: Settings, place: Path) -> dict[str, Any]:
    """Return one row of the table: levels and loudness as means over the songs, the worst of all else."""
    promise = PROMISES[name]
    levels, values, facts = [], [], []
    for number, case in enumerate(cases):
        remix = render(case, name, settings, place / f"{name}-{number}")
        levels.append(measure_levels(case.sources, remix.mix))
        values.append(promise.measure(remix))
        facts.append(find_facts(remix))
    worst = max(values, key=lambda value: (not promise.is_kept(value), -abs(value)))
    return {
        "preset": name,
        "levels_db": {
            stem: round(float(np.mean([level[stem] for level in levels])), 2) for stem in SIX_SOURCES
        },
        "loudness_lu": round(float(np.mean([fact.loudness_db for fact in facts])), 2),
        "true_peak_dbtp": round(max(fact.true_peak_db for fact in facts), 2),
        "untouched": f"{sum(fact.untouched for fact in facts)} of {sum(fact.untouchable for fact in facts)}",
        "is_exact": all(fact.is_exact for fact in facts),
        "promise": promise.words,
        "promise_db": round(float(worst), 2),
        "is_kept": all(map(promise.is_kept, values)),
    }


def tell_given(folder: Path, settings: Settings, place: Path) -> None:
    """Print what the presets do to the stems of a set: loudness of each file before and after."""
    case = read_case(folder, {})
    print(f"{folder.name}: change of loudness in LU, {RESIDUAL} included")
    for name in find_presets(settings):
        try:
            remix = render(case, name, settings, place / f"given-{name}")
        except PresetError as error:
            print(f"{name:24} {error.message}")
            continue
        words = []
        for stem, signal in remix.stems.items():
            after = measure_loudness(signal, remix.rate)
            before = measure_loudness(case.stems[stem], remix.rate) if stem in case.stems else None
            change = 0.0 if after == before else after - (before or 0.0)
            words.append(f"{stem} {after:.1f} LUFS" if before is None else f"{stem} {change:+.1f}")
        facts = find_facts(remix)
        print(
            f"{name:24} all {facts.loudness_db:+.1f}, {facts.true_peak_db:.1f} dBTP, "
            f"exact: {facts.is_exact}, untouched: {facts.untouched} of {facts.untouchable}; "
            f"{', '.join(words)}"
        )


# --- the page --------------------------------------------------------------------------------------------


INTRODUCTION = """
Written by `python benchmarks/{command}` at commit {commit}. What each is for stands in
[presets/README.md](../presets/README.md), and `stembridge presets list` tells it.

Measured on {songs} synthetic songs of {seconds:g} s, whose six sources are known; each stem of their sets
holds {bleed:g} dB of everything else, and the residual closes the sum. The level of a source is read from the
remix alone: `gone` is below -60 dB, a dot is no change (less than 0.05 dB). Loudness is that of the remix
against the original's. Untouched are the stems that a preset does not name: so many of them are the set's bit
for bit; a dash stands where they are muted, or moved by one common gain. The last two columns hold what the
name promises, and the worst song's figure for it.
"""


def make_page(report: Mapping[str, Any]) -> str:
    """Return docs/presets.md from a report of this benchmark."""
    figures = report["figures"]
    told = {"songs": len(report["seed"]), "seconds": figures["seconds"], "bleed": figures["bleed, dB"]}
    told |= {"command": report["command"], "commit": report["commit"][:7]}
    paragraphs = [text.format(**told) for text in INTRODUCTION.strip().split("\n\n")]
    header = ["preset", *SIX_SOURCES, "loudness, LU", "true peak, dBTP", "untouched", "promise", "dB"]
    lines = ["# What the shipped presets do", ""]
    for paragraph in paragraphs:
        lines += [textwrap.fill(" ".join(paragraph.split()), 110, break_on_hyphens=False), ""]
    lines += [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    for row in figures["presets"]:
        cells = [
            f"`{row['preset']}`",
            *(spell_level(row["levels_db"][stem]) for stem in SIX_SOURCES),
            f"{row['loudness_lu']:+.1f}",
            f"{row['true_peak_dbtp']:.1f}",
            "-" if row["untouched"].endswith(" of 0") else row["untouched"],
            row["promise"],
            f"{row['promise_db']:+.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    kept, exact = (figures[f"presets {what}"] for what in ("that keep their promise", "whose sums are exact"))
    ending = (
        f"Promises kept: {kept}. Sums exact in 64-bit floats, of the stems to the remix and of their changes "
        f"to the remix's change: {exact}."
    )
    return "\n".join([*lines, "", textwrap.fill(ending, 110), ""])


def spell_level(level_db: float) -> str:
    if level_db <= FLOOR_DB:
        return "gone"
    return "." if abs(level_db) < 0.05 else f"{level_db:+.1f}"


def main() -> int:
    parser = argparse.ArgumentParser(description="What every shipped preset does to songs.")
    parser.add_argument("--seeds", type=parse_seeds, default=parse_seeds("300-301"), help="e.g. 300-301")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each song")
    parser.add_argument("--json", type=Path, default=RESULT)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--set", type=Path, action="append", default=[], help="a finished set to try them on")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        settings = load_settings(home=place / "home", environ={})
        if options.set:
            for folder in options.set:
                tell_given(folder, settings, place)
            return 0
        cases = [make_case(place / str(seed), seed, options.seconds) for seed in options.seeds]
        rows = []
        for preset in find_presets(settings):
            rows.append(measure_preset(preset, cases, settings, place))
            row = rows[-1]
            print(
                f"{preset:24} {row['promise']} {row['promise_db']:+.2f} dB: {'yes' * row['is_kept'] or 'NO'}"
            )
    kept, exact = (sum(row[key] for row in rows) for key in ("is_kept", "is_exact"))
    figures = {
        "seconds": options.seconds,
        "bleed, dB": BLEED_DB,
        "presets that keep their promise": f"{kept} of {len(rows)}",
        "presets whose sums are exact": f"{exact} of {len(rows)}",
        "presets": rows,
    }
    write_report("preset_table", sys.argv, options.seeds, figures, options.json)

    options.page.write_text(make_page(json.loads(options.json.read_text("utf-8"))), "utf-8")
    return 0 if kept == exact == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
