"""The figures of a report are those of the written files, and its page lies beside them."""

from __future__ import annotations

from math import log10
from pathlib import Path

import numpy as np
import pytest

from remixes import MadeRemix, MadeSet, Signal, make_set, remix
from stembridge.dsp.true_peak import TruePeakMeter
from stembridge.manifest import Manifest
from stembridge.mixdown import measuring
from stembridge.mixdown.meters import RemixFigures, SignalFigures

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


def render_measured(
    tmp: Path, made: MadeSet, text: str, monkeypatch: pytest.MonkeyPatch, *, stems_out: bool
) -> tuple[MadeRemix, RemixFigures]:
    """Return a remix and the figures that its page was made from."""
    kept: list[RemixFigures] = []

    def render(document: Manifest, figures: RemixFigures) -> str:
        kept.append(figures)
        return f"<p>{document.job}</p>\n"

    monkeypatch.setattr(measuring, "render_report", render)
    found = remix(tmp, made, text, job_id=f"job-{stems_out}", stems_out=stems_out, report=True)
    assert (found.folder / "report.html").read_text("utf-8") == f"<p>job-{stems_out}</p>\n"
    return found, kept[0]


def assert_measured(figures: SignalFigures | None, signal: Signal, frames: int) -> None:
    assert figures is not None
    padded = np.pad(signal, ((0, 0), (0, frames - signal.shape[1])))
    peak = np.abs(padded).max()
    assert figures.peak_db == pytest.approx(20 * log10(peak))
    assert figures.rms_db == pytest.approx(10 * log10(np.square(padded).mean()))
    assert max(max(-low, high) for low, high in figures.envelope) == pytest.approx(peak)


@pytest.mark.parametrize("kind", ["pcm16", "float"])
@pytest.mark.parametrize("stems_out", [False, True])
def test_a_report_measures_what_was_and_what_became_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, stems_out: bool
) -> None:
    made = make_set(tmp_path, kind=kind)
    found, figures = render_measured(tmp_path, made, TEXT, monkeypatch, stems_out=stems_out)
    frames = found.samples.shape[1]
    assert frames > made.original.shape[1]
    assert (figures.null_untouched, figures.reduction_db_max) == (0.0, 0.0)
    # Float stems, whose set is not exact itself, sum to their remix but for what is claimed.
    assert figures.null_remix <= found.manifest.claims.max_error
    assert found.manifest.claims.max_error == 0.0 or kind == "float"
    original = np.pad(made.original, ((0, 0), (0, frames - made.original.shape[1])))
    assert_measured(figures.original, original, frames)
    for signal, whole in ((original, figures.original), (found.samples, figures.remix)):
        meter = TruePeakMeter(signal.shape[0], 16)
        meter.add(signal)
        assert whole.true_peak_db == pytest.approx(20 * log10(meter.read()))
    assert figures.difference.true_peak_db is None
    assert_measured(figures.remix, found.samples, frames)
    assert_measured(figures.difference, found.samples - original, frames)
    stems = {stem.name: stem for stem in figures.stems}
    assert list(stems) == ["drums", "bass", "other", "vocals", "residual", "room"]
    for name, signal in made.stems.items():
        assert_measured(stems[name].before, signal, frames)
        assert stems[name].is_untouched == (name in ("bass", "other", "residual"))
    for name, signal in found.stems.items():
        assert_measured(stems[name].after, signal, frames)
    assert stems["drums"].after is None
    assert stems["room"].before is None and stems["room"].after is not None


def test_the_page_stands_beside_the_files_and_only_where_it_was_asked_for(tmp_path: Path) -> None:
    made = make_set(tmp_path)
    found = remix(tmp_path, made, "[stems.vocals]\nmute = true\n", report=True)
    page = (found.folder / "report.html").read_text("utf-8")
    assert page.startswith("<!doctype html>") or page.startswith("<!DOCTYPE html>")
    plain = remix(tmp_path, made, "[stems.vocals]\nmute = true\n", job_id="plain")
    assert not (plain.folder / "report.html").exists()
