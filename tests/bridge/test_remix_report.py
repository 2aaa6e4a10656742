"""The report of a remix: what is measured for it, what it says, and what a browser shows of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from math import inf
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d, minimum_filter1d

from remix_pages import PRESET, RATE, describe, measure, measure_remix, vocals_up
from stembridge.dsp.loudness import LoudnessMeter
from stembridge.dsp.true_peak import TruePeakMeter
from stembridge.errors import SourceError
from stembridge.mixdown.drawing import draw_levels, draw_outlines, find_ticks, find_zeros, shrink
from stembridge.mixdown.meters import MAX_COLUMNS, SignalMeter
from stembridge.mixdown.report import render_report
from stembridge.synthesis import make_song

CHROMIUM = next((found for name in ("chromium", "google-chrome") if (found := shutil.which(name))), None)


class _Text(HTMLParser):
    """Collects what a reader reads."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._hidden = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("style", "script"):
            self._hidden = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self._hidden:
            self._hidden = ""

    def handle_data(self, data: str) -> None:
        if not self._hidden and data.strip():
            self.lines.append(data.strip())


def read_text(page: str) -> str:
    """Return what a reader of the page reads, on one line."""
    return " ".join(_Text(page).lines)


def read_row(page: str, name: str) -> str:
    """Return what stands in one stem's row."""
    row = re.search(rf"<tr><td>{re.escape(name)}</td>.*?</tr>", page)
    assert row is not None
    return read_text(row[0])


# What is measured.


def test_a_signal_is_measured_as_its_own_samples_say() -> None:
    song = make_song(2, seconds=2.0, sample_rate=RATE).mixture
    figures = measure(song, has_true_peak=True)
    loudness = LoudnessMeter(2, RATE)
    loudness.add(song)
    assert figures.peak_db == pytest.approx(20 * np.log10(np.abs(song).max()))
    assert figures.rms_db == pytest.approx(10 * np.log10(np.mean(song**2)))
    assert figures.loudness_lufs == loudness.read()
    meter = TruePeakMeter(2, 16)
    meter.add(song)
    assert figures.true_peak_db == pytest.approx(20 * np.log10(meter.read()))
    assert measure(-song).peak_db == pytest.approx(figures.peak_db)
    assert measure(song).true_peak_db is None


@pytest.mark.parametrize("frames", [1, 2, 1199, 1200, 1201, 5000, 12_345])
@pytest.mark.parametrize("block_frames", [1000, 4096, 20_000])
def test_an_outline_holds_the_lowest_and_the_highest_sample_of_its_columns(
    frames: int, block_frames: int
) -> None:
    noise = np.random.default_rng(frames).normal(size=(2, frames))
    meter = SignalMeter(2, RATE, frames)
    for start in range(0, frames, block_frames):
        meter.add(noise[:, start : start + block_frames])
    envelope = meter.read().envelope
    columns = min(frames, MAX_COLUMNS)
    edges = [column * frames // columns for column in range(columns + 1)]
    parts = [noise[:, start:end] for start, end in pairwise(edges)]
    assert envelope == tuple((part.min(), part.max()) for part in parts)


def test_silence_has_no_level() -> None:
    figures = measure(np.zeros((1, 5000)))
    assert (figures.peak_db, figures.rms_db, figures.loudness_lufs) == (-inf,) * 3
    assert figures.true_peak_db is None
    assert measure(np.zeros((1, 5000)), has_true_peak=True).true_peak_db == -inf
    assert set(figures.envelope) == {(0.0, 0.0)}


def test_surround_channels_weigh_in_a_signals_loudness() -> None:
    noise = np.random.default_rng(1).normal(size=(1, RATE)) * 0.1
    meter = SignalMeter(1, RATE, RATE, weights=(1.41,))
    meter.add(noise)
    assert meter.read().loudness_lufs == pytest.approx(measure(noise).loudness_lufs + 10 * np.log10(1.41))


def test_more_than_was_promised_is_refused() -> None:
    meter = SignalMeter(1, RATE, 10)
    meter.add(np.zeros((1, 10)))
    with pytest.raises(SourceError, match="11 frames for a meter of 10"):
        meter.add(np.zeros((1, 1)))


# What is drawn.


def test_stretches_without_any_change_are_found_to_the_column() -> None:
    change, none = (-1e-9, 0.0), (0.0, 0.0)
    assert find_zeros([none, none, change, none, change, change, none]) == [(0, 2), (3, 4), (6, 7)]
    assert find_zeros([change]) == find_zeros([]) == []


@pytest.mark.parametrize("columns", [1, 3, 7, 10, 50])
def test_a_smaller_outline_loses_no_peak(columns: int) -> None:
    envelope = [(-float(place), 2.0 * place) for place in range(10)]
    small = shrink(envelope, columns)
    assert len(small) == min(columns, 10)
    assert (min(low for low, _ in small), max(high for _, high in small)) == (-9.0, 18.0)
    assert shrink([], columns) == []


@pytest.mark.parametrize("seconds", [0.003, 0.4, 1.0, 9.9, 61.0, 200.0, 3599.0, 30_000.0, 90_000.0])
def test_a_time_axis_has_a_few_round_times_that_fit(seconds: float) -> None:
    ticks = find_ticks(seconds)
    assert ticks[0] == 0
    assert 1 <= len(ticks) <= 9
    assert ticks[-1] < seconds
    assert len(ticks) > 2 or seconds < 0.01


def read_paths(drawn: str) -> dict[str, str]:
    """Return what each class of a drawing traces."""
    return dict(re.findall(r'<path class="([^"]+)" d="([^"]*)"/>', drawn))


def test_an_outline_runs_along_the_highest_samples_and_back_along_the_lowest() -> None:
    drawn = draw_outlines([("remix", [(-0.5, 1.0), (0.0, 0.25)])], 1.0, "an <outline>")
    assert read_paths(drawn) == {"zero": "M0,50H2", "remix": "M0,0 2,37.5 2,50 0,75z"}
    assert 'viewBox="0 0 2 100"' in drawn and 'aria-label="an &lt;outline&gt;"' in drawn
    alone = read_paths(draw_outlines([("remix", [(-1.0, 0.5)])], 1.0, ""))
    assert alone["remix"] == "M0,25 1,25 1,100 0,100z"
    louder = read_paths(draw_outlines([("remix", [(-2.0, 1.0), (0.0, 0.0)])], 2.0, ""))
    assert louder["remix"].startswith("M0,25 ") and louder["remix"].endswith(" 0,100z")
    assert louder["edge"] == "M0,25H2M0,75H2"
    assert read_paths(draw_outlines([("remix", [])], 1.0, "")) == {"zero": "M0,50H0"}


def test_levels_are_drawn_from_the_floor_up_and_nothing_as_a_band() -> None:
    half = 10 ** (-48 / 20)
    drawn = draw_levels([(-half, 0.0), (0.0, 0.0), (0.0, 0.0), (-1.0, 2.0), (0.0, 1e-9)], "")
    paths = read_paths(drawn)
    assert paths["levels"] == "M0,100V50.0h1V100zM3,100V0.0h1V100zM4,100V100.0h1V100z"
    assert paths["rule"] == "M0,25H5M0,50H5M0,75H5"
    assert paths["nothing"] == "M1,93H3V100H1z"
    assert list(paths) == ["levels", "rule", "nothing"]


@pytest.mark.parametrize("gain", [0.25, 4.0])
def test_of_two_outlines_the_quieter_lies_on_top(gain: float) -> None:
    tone = 0.5 * np.sin(0.3 * np.arange(RATE))[None]
    page = render_report(describe(channels=1), measure_remix({"bass": tone}, {"bass": gain * tone}))
    row = re.search(r"<tr><td>bass</td>.*?</tr>", page)
    assert row is not None
    drawn = [name for name in read_paths(row[0]) if name in ("before", "after")]
    assert drawn == (["before", "after"] if gain < 1 else ["after", "before"])


@pytest.mark.parametrize(("gain", "is_above"), [(0.5, False), (4.0, True)])
def test_what_goes_above_full_scale_is_drawn_whole(gain: float, is_above: bool) -> None:
    tone = 0.5 * np.sin(0.3 * np.arange(RATE))[None]
    page = render_report(describe(channels=1), measure_remix({"bass": tone}, {"bass": gain * tone}))
    assert ("the dashed lines are 0 dBFS" in page) == is_above
    assert ("full height is 0 dBFS" in page) != is_above
    heard = page[page.index("What is heard") : page.index("Level of the difference</b>")]
    assert heard.count('class="edge"') == 3 * is_above
    places = [float(place) for place in re.findall(r"\d,([-\d.e]+)[ z]", heard)]
    assert min(places) >= 0 and max(places) <= 100
    assert min(places) < 1 if is_above else min(places) == pytest.approx(25, abs=0.5)


def test_hashes_stand_whole_and_break_in_their_middle() -> None:
    page = render_report(describe(), vocals_up())
    assert f"<code>{'7e' * 16}<wbr>{'7e' * 16}</code>" in page
    assert f"<code>{'3f' * 16}<wbr>{'3f' * 16}</code>" in page


# What is said.


def test_a_reader_learns_that_only_the_vocals_changed() -> None:
    page = render_report(describe(), vocals_up())
    text = read_text(page)
    assert "Blue Hour – vocals-up" in text
    assert "Only what was asked changed." in text
    assert "4 of 5 stems are untouched, bit for bit: drums, bass, other, residual." in text
    assert "about 67 % of the time" in text
    assert text.count("exactly 0") == 2
    assert PRESET.strip() in "\n".join(_Text(page).lines)
    assert "+4.1 dB" in read_row(page, "vocals")
    assert read_row(page, "vocals").endswith("changed")
    for name in ("drums", "bass", "other", "residual"):
        row = read_row(page, name)
        assert "0.0 dB" in row
        assert row.endswith("untouched")
        assert "→" not in row


def test_levels_before_and_after_stand_in_a_stems_row() -> None:
    tone = 0.5 * np.sin(2 * np.pi * 997 / RATE * np.arange(RATE))[None]
    quiet = measure_remix({"bass": tone}, {"bass": 0.25 * tone})
    row = read_row(render_report(describe(channels=1), quiet), "bass")
    assert "−9.0 → −21.1" in row
    assert "−12.0 dB" in row
    assert "−6.0 → −18.1" in row


@pytest.mark.parametrize(
    ("step_db", "levels", "change"),
    [
        (-0.03, "−9.03 → −9.06", "−0.03 dB"),
        (0.04, "−9.03 → −8.99", "+0.04 dB"),
        (-0.001, "−9.03 → −9.03", "0.00 dB"),
        (-0.2, "−9.0 → −9.2", "−0.2 dB"),
    ],
)
def test_a_small_change_has_the_digits_that_it_needs(step_db: float, levels: str, change: str) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 997 / RATE * np.arange(RATE))[None]
    figures = measure_remix({"bass": tone}, {"bass": 10 ** (step_db / 20) * tone})
    row = read_row(render_report(describe(channels=1), figures), "bass")
    assert f"{levels} {change}" in row
    assert "−0.0 " not in row and "+0.0 " not in row


def test_what_touches_every_stem_is_named() -> None:
    song = make_song(3, seconds=1.0, sample_rate=RATE).stems
    before = {name: song[name] for name in ("bass", "other")}
    figures = measure_remix(before, {name: 0.5 * stem for name, stem in before.items()})
    document = describe()

    def says(*touching: str) -> str:
        return read_text(render_report(document, replace(figures, touching=touching)))

    assert "No stem is left bit for bit: the ceiling acts on all of them." in says("the ceiling")
    assert "No stem is left bit for bit: the match and the ceiling act on all of them." in says(
        "the match", "the ceiling"
    )
    assert "The preset changes or mutes every stem." in says()
    assert "acts on all" not in read_text(render_report(document, replace(vocals_up(), touching=("x",))))


def test_a_page_says_why_stems_differ_that_no_preset_names() -> None:
    song = make_song(3, seconds=1.0, sample_rate=RATE).stems
    document = describe()
    assert document.remix is not None
    entry = replace(document.remix, gain_db=4.31)
    after = {name: 10 ** (4.31 / 20) * stem for name, stem in song.items()}
    with_delta = measure_remix(song, {**after, "master_delta": -0.5 * song["bass"]})
    matched = read_text(render_report(replace(document, remix=entry), with_delta))
    assert (
        "What the master chain does to the whole stands in master_delta. "
        "The match turned all stems up by 4.3 dB." in matched
    )
    quieter = replace(document, remix=replace(entry, gain_db=-0.05))
    assert "The match turned all stems down by 0.05 dB." in read_text(render_report(quieter, with_delta))
    plain = read_text(render_report(document, measure_remix(song, song)))
    assert "master_delta" not in plain and "turned all stems" not in plain


def test_the_signals_that_were_looked_at_between_their_samples_say_so() -> None:
    fade = np.minimum(1, np.minimum(np.arange(4 * RATE), np.arange(4 * RATE)[::-1]) / 50)
    tone = 0.5 * (fade * np.sin(2 * np.pi / 4 * np.arange(4 * RATE) + np.pi / 4))[None]
    figures = measure_remix({"bass": tone}, {"bass": 0.5 * tone})
    page = read_text(render_report(describe(channels=1), figures))
    assert "True peak −6.0 → −12.0 dBTP" in page
    assert "peak −9.0 dBFS · RMS −9.0 dBFS" in page and "true peak −6.0 dBTP" in page
    assert page.count("dBTP") == 3
    assert "−9.0 → −15.1" in read_row(render_report(describe(channels=1), figures), "bass")


def test_muted_and_added_stems_are_told_apart() -> None:
    song = make_song(3, seconds=1.0, sample_rate=RATE).stems
    before = {"drums": song["drums"], "vocals": song["other"]}
    page = render_report(
        describe(), measure_remix(before, {"drums": song["drums"], "room": 0.1 * song["other"]})
    )
    assert read_row(page, "vocals").endswith("muted")
    assert "−∞ dB" in read_row(page, "vocals")
    assert read_row(page, "room").endswith("added")
    assert "→" not in read_row(page, "room")
    assert "1 of 2" not in read_text(page)
    assert "1 of 3 stems is untouched, bit for bit: drums." in read_text(page)


def test_a_remix_that_changes_nothing_says_so() -> None:
    song = make_song(3, seconds=1.0, sample_rate=RATE).stems
    text = read_text(render_report(describe(), measure_remix(song, song)))
    assert "Nothing changed: the remix is the original, sample for sample." in text
    assert "Level of the difference, against the original none" in text
    assert "100 % of the time" in text


def test_a_difference_without_a_level_is_put_into_words() -> None:
    song = make_song(3, seconds=1.0, sample_rate=RATE).stems
    page = render_report(describe(), measure_remix({"bass": 0 * song["bass"]}, {"bass": song["bass"]}))
    assert "Level of the difference, against the original the original is silent" in read_text(page)
    figures = vocals_up()
    behind = replace(figures, difference=replace(figures.difference, rms_db=-inf))
    assert "against the original none before its end" in read_text(render_report(describe(), behind))


@pytest.mark.parametrize("errors", [(1e-9, 0.0), (0.0, 1e-9)])
def test_an_error_of_any_size_is_shown_and_not_called_exact(errors: tuple[float, float]) -> None:
    figures = replace(vocals_up(), null_untouched=errors[0], null_remix=errors[1])
    text = read_text(render_report(describe(), figures))
    assert "Only what was asked changed" not in text
    assert "nothing above −180.0 dBFS" in text
    assert text.count("exactly 0") == 1


def test_claims_are_those_of_the_manifest() -> None:
    document = describe()
    claims = document.claims
    figures = vocals_up()
    for changed, says in (
        (claims, "exact in 64-bit and 32-bit mixing, in any order"),
        (replace(claims, exact_f32_any_order=False), "exact in 64-bit mixing, in any order"),
        (replace(claims, exact_f64=False, max_error=1e-8), "off by at most −160.0 dBFS"),
    ):
        assert says in read_text(render_report(replace(document, claims=changed), figures))
    alone = read_text(render_report(replace(document, mixture=None), figures))
    assert "delivered" not in alone


def test_gain_ceiling_notes_and_warnings_are_told_where_there_are_any() -> None:
    document, figures = describe(), vocals_up()
    plain = read_text(render_report(document, figures))
    for word in ("ceiling", "Gain to match", "Notes", "Warnings"):
        assert word not in plain
    assert document.remix is not None
    entry = replace(document.remix, gain_db=-1.25, notes=("Tape is 20 frames late",))
    full = read_text(
        render_report(
            replace(document, remix=entry, warnings=("bass is 32-bit float",)),
            replace(figures, reduction_db_max=2.345),
        )
    )
    assert "Gain to match the loudness −1.25 dB" in full
    assert "The ceiling took off at most 2.35 dB" in full or "at most 2.34 dB" in full
    assert "Notes Tape is 20 frames late" in full
    assert "Warnings bass is 32-bit float" in full


def test_no_text_becomes_markup() -> None:
    evil = '<script>alert("x")</script>&amp;\x07'
    document = describe(path=f"/m/{evil}.wav")
    assert document.remix is not None
    entry = replace(document.remix, preset=evil, text=evil, notes=(evil,))
    document = replace(
        document,
        remix=entry,
        warnings=(evil,),
        job=evil,
        created=evil,
        model=replace(document.model, name=evil),
        generator=replace(document.generator, version=evil),
    )
    song = make_song(3, seconds=1.0, sample_rate=RATE).stems
    page = render_report(document, measure_remix({evil: song["bass"]}, {evil: 0.5 * song["bass"]}))
    assert "<script" not in page
    assert read_text(page).count('<script>alert("x")</script>&amp;') >= 9


def test_the_page_asks_nothing_of_a_network() -> None:
    page = render_report(describe(), vocals_up())
    assert "default-src 'none'" in page
    assert not re.search(r"https?:|//[a-z]|url\(|@import|<script|<link rel=.stylesheet| src=", page)


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("frames", [1, 3, 700])
def test_the_shortest_remixes_have_a_page(channels: int, frames: int) -> None:
    noise = np.random.default_rng(0).normal(size=(channels, frames)) * 3
    zeros = np.zeros((channels, frames))
    for before, after in ((noise, zeros), (zeros, noise), (zeros, zeros)):
        figures = measure_remix({"vocals": before}, {"vocals": after})
        page = render_report(describe(frames=frames, channels=channels), figures)
        assert "nan" not in page
        assert "inf" not in page


# What is seen.


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize(("width", "margin"), [(560, 27), (1200, 49)])
def test_a_browser_shows_the_change_where_it_is_and_nowhere_else(
    tmp_path: Path, width: int, margin: int
) -> None:
    page = tmp_path / "report.html"
    figures = vocals_up()
    page.write_text(render_report(describe(), figures), "utf-8")
    picture = show_page(page, width, 1400)[:, margin : width - margin]
    is_amber = _count(picture, (194, 106, 8)) > 12
    rows = np.flatnonzero(_count(picture.transpose(1, 0, 2), (194, 106, 8)) > 10)
    is_green = _count(picture[rows[-1] - 2 : rows[-1] + 1], (21, 122, 72)) > 1
    # What each column of the picture stands for; those at the edge of anything may be blended.
    columns = (np.arange(is_amber.size) + 0.5) / is_amber.size * len(figures.difference.envelope)
    highs = np.array([high for _, high in figures.difference.envelope])[columns.astype(int)]
    is_changed = maximum_filter1d(highs != 0, 7)
    is_loud = minimum_filter1d(highs > 0.02, 7)
    assert 0.1 < is_loud.mean() < is_changed.mean() < 0.4
    assert is_amber[is_loud].mean() > 0.98
    assert not is_amber[~is_changed].any()
    # The corners are round.
    assert is_green[~is_changed].mean() > 0.98
    assert not is_green[is_loud].any()


def show_page(page: Path, width: int, height: int) -> NDArray[np.uint8]:
    """Return (height, width, 3) of the page as Chromium draws it; its console must stay silent."""
    assert CHROMIUM is not None
    picture = page.with_suffix(".png")
    options = f"--headless --no-sandbox --disable-gpu --hide-scrollbars --window-size={width},{height}"
    # A proxy that is not there: whatever is asked of a network would end as an error on the console.
    options += " --proxy-server=127.0.0.1:9 --enable-logging=stderr --force-device-scale-factor=1"
    # Chromium's sockets lie in these folders, and the name of a socket must be short.
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [
                CHROMIUM,
                *options.split(),
                f"--user-data-dir={folder}",
                f"--screenshot={picture}",
                page.as_uri(),
            ],
            env=os.environ | {"TMPDIR": folder, "HOME": folder},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
    assert "CONSOLE" not in done.stderr
    raw = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", picture, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"],
        capture_output=True,
        check=True,
    ).stdout
    return np.frombuffer(raw, np.uint8).reshape(height, -1, 3)


def _count(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.int64]:
    """Return how many pixels of a colour each column of a picture has."""
    return np.asarray((picture == np.array(colour, np.uint8)).all(axis=2).sum(axis=0))
