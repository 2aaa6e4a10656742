"""The figures of a report are those of the written files, and its page lies beside them."""

from __future__ import annotations

from collections.abc import Generator
from itertools import pairwise
from math import log10
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from remixes import RATE_HZ, MadeRemix, MadeSet, Signal, make_set, remix
from stembridge.dsp.loudness import LoudnessMeter
from stembridge.dsp.true_peak import TruePeakMeter
from stembridge.manifest import Manifest
from stembridge.mixdown import measuring
from stembridge.mixdown.meters import RemixFigures, SignalFigures
from stembridge.mixdown.mixing import Mix

TEXT = """
tail = "extend"
[stems.vocals]
gain_db = -3.0
[[stems.vocals.effects]]
kind = "delay"
delay_ms = 100.0
[stems.drums]
mute = true
[[sends]]
name = "room"
levels_db = { vocals = -6.0 }
[[sends.effects]]
kind = "reverb"
"""


def keep_figures(monkeypatch: pytest.MonkeyPatch) -> list[RemixFigures]:
    """Return the list that gets the figures of every page that is made from now on."""
    kept: list[RemixFigures] = []

    def render(document: Manifest, figures: RemixFigures) -> str:
        kept.append(figures)
        return f"<p>{document.job}</p>\n"

    monkeypatch.setattr(measuring, "render_report", render)
    return kept


def render_measured(
    tmp: Path, made: MadeSet, text: str, monkeypatch: pytest.MonkeyPatch, *, stems_out: bool
) -> tuple[MadeRemix, RemixFigures]:
    """Return a remix and the figures that its page was made from."""
    kept = keep_figures(monkeypatch)
    found = remix(tmp, made, text, job_id=f"job-{stems_out}", stems_out=stems_out, report=True)
    assert (found.folder / "report.html").read_text("utf-8") == f"<p>job-{stems_out}</p>\n"
    return found, kept[0]


def assert_measured(figures: SignalFigures | None, signal: Signal, frames: int, made: MadeSet) -> None:
    """Hold figures against a signal: levels within the original's length, peaks and outline all along."""
    assert figures is not None
    padded = np.pad(signal, ((0, 0), (0, frames - signal.shape[1])))
    peak = np.abs(padded).max()
    assert figures.peak_db == pytest.approx(20 * log10(peak))
    inside = signal[:, : made.original.shape[1]]
    assert figures.rms_db == pytest.approx(10 * log10(np.square(inside).mean()))
    loudness = LoudnessMeter(len(signal), RATE_HZ)
    loudness.add(inside)
    assert figures.loudness_lufs == pytest.approx(loudness.read())
    edges = np.arange(1201) * frames // 1200
    assert figures.envelope == tuple(
        (padded[:, start:end].min(), padded[:, start:end].max()) for start, end in pairwise(edges)
    )


@pytest.mark.parametrize("kind", ["pcm16", "float"])
@pytest.mark.parametrize("stems_out", [False, True])
def test_a_report_measures_what_was_and_what_became_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, stems_out: bool
) -> None:
    made = make_set(tmp_path, kind=kind, frames=RATE_HZ // 2)
    found, figures = render_measured(tmp_path, made, TEXT, monkeypatch, stems_out=stems_out)
    frames = found.samples.shape[1]
    assert frames > made.original.shape[1]
    assert (figures.null_untouched, figures.reduction_db_max) == (0.0, 0.0)
    # Float stems, whose set is not exact itself, sum to their remix but for what is claimed.
    assert figures.null_remix <= found.manifest.claims.max_error
    assert found.manifest.claims.max_error == 0.0 or kind == "float"
    original = np.pad(made.original, ((0, 0), (0, frames - made.original.shape[1])))
    assert_measured(figures.original, original, frames, made)
    for signal, whole in ((original, figures.original), (found.samples, figures.remix)):
        meter = TruePeakMeter(signal.shape[0], 16)
        meter.add(signal)
        assert whole.true_peak_db == pytest.approx(20 * log10(meter.read()))
    assert figures.difference.true_peak_db is None
    assert_measured(figures.remix, found.samples, frames, made)
    assert_measured(figures.difference, found.samples - original, frames, made)
    stems = {stem.name: stem for stem in figures.stems}
    assert list(stems) == ["drums", "bass", "other", "vocals", "residual", "room"]
    for name, signal in made.stems.items():
        assert_measured(stems[name].before, signal, frames, made)
        assert stems[name].is_untouched == (name in ("bass", "other", "residual"))
    for name, signal in found.stems.items():
        assert_measured(stems[name].after, signal, frames, made)
    assert stems["drums"].after is None
    assert stems["room"].before is None and stems["room"].after is not None


def test_surround_channels_weigh_in_a_reports_loudness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_set(tmp_path, kind="pcm24", channels=6, frames=RATE_HZ // 2)
    _, figures = render_measured(
        tmp_path, made, "[stems.vocals]\ngain_db = -3.0\n", monkeypatch, stems_out=False
    )
    loudness = LoudnessMeter(6, RATE_HZ, (1.0, 1.0, 1.0, 0.0, 1.41, 1.41))
    loudness.add(made.original)
    assert figures.original.loudness_lufs == pytest.approx(loudness.read())


def test_the_page_stands_beside_the_files_and_only_where_it_was_asked_for(tmp_path: Path) -> None:
    made = make_set(tmp_path)
    found = remix(tmp_path, made, "[stems.vocals]\nmute = true\n", report=True)
    page = (found.folder / "report.html").read_text("utf-8")
    assert page.startswith("<!doctype html>") or page.startswith("<!DOCTYPE html>")
    plain = remix(tmp_path, made, "[stems.vocals]\nmute = true\n", job_id="plain")
    assert not (plain.folder / "report.html").exists()


@pytest.mark.parametrize("damaged", ["song - mine.wav", "song - bass.wav", "song - vocals.wav"])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_proof_is_that_of_the_written_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: str, sign: int
) -> None:
    """One sample that changes between writing and measuring is seen, wherever it lies."""
    made = make_set(tmp_path)
    measure = measuring.measure_remix

    def spoil(mix: Mix, *args: Any) -> Generator[float, None, RemixFigures]:
        path = args[-1] / damaged
        samples, rate = soundfile.read(path, dtype="int32")
        samples[5_000, 1] += sign * (7 << 8)
        soundfile.write(path, samples, rate, subtype="PCM_24")
        return measure(mix, *args)

    monkeypatch.setattr("stembridge.mixdown.render.measure_remix", spoil)
    kept = keep_figures(monkeypatch)
    with pytest.raises(AssertionError, match="is not what was written"):
        remix(tmp_path, made, "[stems.vocals]\ngain_db = -6.0\n", stems_out=True, report=True)
    (figures,) = kept
    assert figures.null_remix == 7 * 2.0**-23
    assert figures.null_untouched == (7 * 2.0**-23 if damaged == "song - mine.wav" else 0.0)


def test_what_a_float_set_lacks_is_in_the_proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its closing file a remix of floats is rounded to the others' grid: said, not hidden."""
    made = make_set(tmp_path, kind="float")
    text = "[stems.residual]\nmute = true\n"
    found, figures = render_measured(tmp_path, made, text, monkeypatch, stems_out=True)
    assert figures.null_remix == 0.0
    expected = np.abs(found.samples - (made.original - made.stems["residual"])).max()
    assert figures.null_untouched == pytest.approx(expected, rel=1e-6)
    assert 0.0 < figures.null_untouched < 2.0**-23
