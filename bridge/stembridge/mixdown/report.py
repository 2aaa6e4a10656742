"""The page that shows what a remix changed: one file of HTML that asks nothing of any network."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from math import inf, isfinite, log10
from pathlib import Path

from stembridge.manifest import Manifest, RemixEntry
from stembridge.mixdown.drawing import draw_levels, draw_outlines, find_ticks, find_zeros, shrink
from stembridge.mixdown.meters import RemixFigures, SignalFigures, StemFigures
from stembridge.presets import MASTER_DELTA
from stembridge.text import clock, one_line

_STEM_COLUMNS = 300
_NONE = "–"

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def render_report(document: Manifest, figures: RemixFigures) -> str:
    """Return the report of a remix as one HTML page, without scripts.

    Parameters
    ----------
    document : the remix's manifest; its ``remix`` is set
    """
    entry = document.remix
    if entry is None:
        raise AssertionError("a report is made of a remix alone")
    parts = [
        _write_head(document, entry),
        _write_verdict(figures),
        _write_figures(entry, figures),
        _write_tracks(document, figures),
        _write_stems(entry, figures),
        _write_proof(document, entry, figures),
        _write_lines("Notes", entry.notes),
        _write_lines("Warnings", document.warnings),
        f"<section><h2>The preset as it was rendered</h2><pre>{escape(entry.text)}</pre></section>",
        f"<footer>Stembridge {escape(document.generator.version)} · {escape(document.created)} · "
        f"job {escape(document.job)}</footer>",
    ]
    return _PAGE.format(
        title=f"{_name(Path(document.source.path).stem)} – {_name(entry.preset)}",
        style=Path(__file__).with_name("report.css").read_text("utf-8"),
        body="\n".join(part for part in parts if part),
    )


def _write_head(document: Manifest, entry: RemixEntry) -> str:
    source = document.source
    channels = {1: "mono", 2: "stereo"}.get(source.channels, f"{source.channels} channels")
    facts = [
        _name(Path(source.path).name),
        f"{source.sample_rate / 1000:g} kHz {channels}",
        clock(source.frames / source.sample_rate),
        f"separated by {_name(document.model.name)}",
    ]
    return (
        f"<header><h1>{_name(Path(source.path).stem)} – {_name(entry.preset)}</h1>"
        f'<p class="of">{" · ".join(facts)}</p></header>'
    )


def _write_verdict(figures: RemixFigures) -> str:
    is_exact = figures.null_untouched == 0 and figures.null_remix == 0
    kept = _tell_untouched(figures)
    if not is_exact:
        error = max(figures.null_untouched, figures.null_remix)
        says = f"What was asked changed, and beside it nothing above {_decibels(20 * log10(error))} dBFS."
        return f'<p class="verdict near"><b>{says}</b> {kept}</p>'
    says = "Only what was asked changed."
    if figures.difference.peak_db == -inf:
        says = "Nothing changed: the remix is the original, sample for sample."
    return f'<p class="verdict"><b>{says}</b> {kept}</p>'


def _tell_untouched(figures: RemixFigures) -> str:
    """Return which stems are as they were, or why none is."""
    untouched = [_name(stem.name) for stem in figures.stems if stem.is_untouched]
    if untouched:
        verb = "is" if len(untouched) == 1 else "are"
        return (
            f"{len(untouched)} of {len(figures.stems)} stems {verb} untouched, bit for bit: "
            f"{', '.join(untouched)}."
        )
    if figures.touching:
        verb = "acts" if len(figures.touching) == 1 else "act"
        return f"No stem is left bit for bit: {' and '.join(figures.touching)} {verb} on all of them."
    return "The preset changes or mutes every stem."


def _write_figures(entry: RemixEntry, figures: RemixFigures) -> str:
    before, after, difference = figures.original, figures.remix, figures.difference
    share = sum(end - start for start, end in find_zeros(difference.envelope))
    columns = max(len(difference.envelope), 1)
    same = (
        f"{100 * share / columns:.0f} %" if share in (0, columns) else f"about {100 * share / columns:.0f} %"
    )
    found = [
        ("Loudness", _change(before.loudness_lufs, after.loudness_lufs, "LUFS")),
        *_write_peak(before, after),
        ("Level of the difference, against the original", _tell_difference(before, difference)),
        ("Identical to the original", f"{same} of the time"),
    ]
    if entry.gain_db:
        found.append(("Gain to match the loudness", f"{entry.gain_db:+.2f} dB".replace("-", "−")))
    if figures.reduction_db_max:
        found.append(("The ceiling took off at most", f"{_decibels(figures.reduction_db_max, 2)} dB"))
    cells = "".join(f"<div><span>{name}</span><b>{value}</b></div>" for name, value in found)
    return f'<section class="figures">{cells}</section>'


def _tell_difference(before: SignalFigures, difference: SignalFigures) -> str:
    if difference.peak_db == -inf:
        return "none"
    if not isfinite(difference.rms_db):
        return "none before its end"
    if not isfinite(before.rms_db):
        return "the original is silent"
    return f"{_decibels(difference.rms_db - before.rms_db)} dB"


def _write_peak(before: SignalFigures, after: SignalFigures) -> list[tuple[str, str]]:
    if before.true_peak_db is None or after.true_peak_db is None:
        return [("Peak", _change(before.peak_db, after.peak_db, "dBFS"))]
    return [("True peak", _change(before.true_peak_db, after.true_peak_db, "dBTP"))]


def _write_tracks(document: Manifest, figures: RemixFigures) -> str:
    signals = {"original": figures.original, "remix": figures.remix, "difference": figures.difference}
    highest = max(
        (abs(value) for signal in signals.values() for pair in signal.envelope for value in pair), default=0.0
    )
    full_scale = max(1.0, highest)
    titles = {"original": "Original", "remix": "Remix", "difference": "Difference: remix − original"}
    tracks = "".join(
        f'<div class="track"><p><b>{titles[name]}</b><span>{_levels(signal)}</span></p>'
        f"{draw_outlines([(name, signal.envelope)], full_scale, f'outline of the {name}')}</div>"
        for name, signal in signals.items()
    )
    levels = draw_levels(figures.difference.envelope, "level of the difference over time")
    scale = "The three outlines have one scale: full height is 0 dBFS."
    if full_scale > 1:
        scale = "The three outlines have one scale; the dashed lines are 0 dBFS."
    return (
        f"<section><h2>What is heard, and what changed</h2>{tracks}"
        '<div class="track low"><p><b>Level of the difference</b><span>0 to −96 dBFS, a line every 24 dB'
        f"</span></p>{levels}</div>{_write_axis(document)}"
        f'<p class="key"><span>{scale}</span><span><i class="swatch-nothing"></i>nothing changed here, '
        "to the last bit</span></p></section>"
    )


def _write_axis(document: Manifest) -> str:
    seconds = document.source.frames / document.source.sample_rate
    ticks = "".join(
        f'<span style="left:{100 * at / seconds:.3f}%">{_time(at, seconds)}</span>'
        for at in find_ticks(seconds)
    )
    return f'<div class="axis" aria-hidden="true">{ticks}</div>'


def _write_stems(entry: RemixEntry, figures: RemixFigures) -> str:
    signals = [signal for stem in figures.stems for signal in (stem.before, stem.after) if signal]
    highest = max((abs(value) for one in signals for pair in one.envelope for value in pair), default=0.0)
    names = ("Stem", "Before and after", "Level, dBFS RMS", "Change", "Loudness, LUFS", "Peak, dBFS", "")
    head = "".join(f"<th>{name}</th>" for name in names)
    rows = "".join(_write_stem(stem, highest or 1.0) for stem in figures.stems)
    return (
        f'<section><h2>Stem by stem</h2><table class="stems"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table>"
        '<p class="key"><span><i class="swatch-before"></i>before</span>'
        '<span><i class="swatch-after"></i>after</span><span>All stems have one scale.</span>'
        f"{_explain_changes(entry, figures)}</p></section>"
    )


def _explain_changes(entry: RemixEntry, figures: RemixFigures) -> str:
    """Return why stems differ that the preset does not name, '' where there is no such reason."""
    reasons = [
        f"What the master chain does to the whole stands in {_name(stem.name)}."
        for stem in figures.stems
        if stem.before is None and stem.name.startswith(MASTER_DELTA)
    ]
    if entry.gain_db:
        way = "up" if entry.gain_db > 0 else "down"
        reasons.append(
            f"The match turned all stems {way} by {_decibels(abs(entry.gain_db), _digits(entry.gain_db))} dB."
        )
    return f"<span>{' '.join(reasons)}</span>" if reasons else ""


def _write_stem(stem: StemFigures, full_scale: float) -> str:
    before, after = stem.before, stem.after
    signals = [("before", before)] if stem.is_untouched else [("before", before), ("after", after)]
    # The quieter one is drawn over the louder one, so that both are seen.
    heard = sorted(((name, one) for name, one in signals if one), key=lambda pair: -pair[1].rms_db)
    layers = [(name, shrink(one.envelope, _STEM_COLUMNS)) for name, one in heard]
    name = _name(stem.name)
    drawn = draw_outlines(layers, full_scale, f"{one_line(stem.name)} before and after")
    change = _NONE
    if stem.is_untouched:
        change = "0.0 dB"
    elif before and isfinite(before.rms_db):
        step = after.rms_db - before.rms_db if after else -inf
        change = f"{_decibels(step, _digits(step), sign=True)} dB"
    state = _state(stem)
    cells = [
        ("Level, dBFS RMS", _pair(stem, "rms_db")),
        ("Change", change),
        ("Loudness, LUFS", _pair(stem, "loudness_lufs")),
        ("Peak, dBFS", _pair(stem, "peak_db")),
    ]
    numbers = "".join(f'<td data-name="{title}">{value}</td>' for title, value in cells)
    return (
        f'<tr><td>{name}</td><td class="outline">{drawn}</td>{numbers}'
        f'<td class="state"><span class="chip {state}">{state}</span></td></tr>'
    )


def _state(stem: StemFigures) -> str:
    if stem.is_untouched:
        return "untouched"
    if stem.after is None:
        return "muted"
    return "changed" if stem.before else "added"


def _write_proof(document: Manifest, entry: RemixEntry, figures: RemixFigures) -> str:
    claims = document.claims
    rows = [
        ("(remix − original) − Σ (stem after − stem before), largest sample", _null(figures.null_untouched))
    ]
    if document.mixture is not None:
        widths = "64-bit and 32-bit" if claims.exact_f32_any_order else "64-bit"
        order = f"exact in {widths} mixing, in any order of the stems"
        if not claims.exact_f64:
            order = (
                f"off by at most {_decibels(20 * log10(claims.max_error))} dBFS"
                if claims.max_error
                else "exact"
            )
        rows.append(("Σ delivered stems − delivered remix, largest sample", _null(figures.null_remix)))
        rows.append(("The delivered stems' sum", order))
    rows.append(("Samples of the original, sha256", _write_hash(entry.of_sha256_pcm)))
    rows.append(("Samples of the remix, sha256", _write_hash(document.source.sha256_pcm)))
    body = "".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in rows)
    return (
        f'<section class="proof"><h2>Proof</h2><table><tbody>{body}</tbody></table>'
        '<p class="key"><span>Measured on the written files. To measure again: '
        "<code>stembridge null</code> and this folder.</span></p></section>"
    )


def _write_hash(digest: str) -> str:
    """Return a hash that breaks in its middle where it does not fit on one line."""
    half = len(digest) // 2
    return f"<code>{escape(digest[:half])}<wbr>{escape(digest[half:])}</code>"


def _write_lines(title: str, lines: Iterable[str]) -> str:
    items = "".join(f"<li>{_name(line)}</li>" for line in lines)
    return f"<section><h2>{title}</h2><ul>{items}</ul></section>" if items else ""


def _levels(signal: SignalFigures) -> str:
    if signal.peak_db == -inf:
        return "silent: every sample is 0"
    loudness = f" · {_decibels(signal.loudness_lufs)} LUFS" if isfinite(signal.loudness_lufs) else ""
    peak = "" if signal.true_peak_db is None else f" · true peak {_decibels(signal.true_peak_db)} dBTP"
    return f"peak {_decibels(signal.peak_db)} dBFS · RMS {_decibels(signal.rms_db)} dBFS{loudness}{peak}"


def _pair(stem: StemFigures, name: str) -> str:
    before, after = (getattr(one, name) if one else None for one in (stem.before, stem.after))
    if before is None:
        return _NONE if after is None else _decibels(after)
    if stem.is_untouched:
        return f'<span class="same">{_decibels(before)}</span>'
    return _arrow(before, -inf if after is None else after)


def _change(before: float, after: float, unit: str) -> str:
    return f"{_decibels(before) if before == after else _arrow(before, after)} {unit}"


def _arrow(before: float, after: float) -> str:
    """Return two levels with as many digits as their difference needs to be seen."""
    digits = _digits(after - before) if isfinite(before) or isfinite(after) else 1
    return f"{_decibels(before, digits)} → {_decibels(after, digits)}"


def _digits(step: float) -> int:
    """Return how many digits a change needs, so that a small one is not shown as none or as twice that."""
    return 2 if abs(step) < 0.1 else 1


def _decibels(value: float, digits: int = 1, *, sign: bool = False) -> str:
    """Return a level as people read it: a real minus, no negative zero, −∞ for silence."""
    if not isfinite(value):
        return "−∞" if value < 0 else "∞"
    rounded = round(value, digits) + 0.0
    text = f"{rounded:{'+' if sign and rounded else ''}.{digits}f}"
    return text.replace("-", "−")


def _null(error: float) -> str:
    return '<b class="exact">exactly 0</b>' if error == 0 else f"<b>{_decibels(20 * log10(error))} dBFS</b>"


def _time(at: float, seconds: float) -> str:
    if seconds < 10:
        return f"{at:g} s"
    minutes, rest = divmod(round(at), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _name(text: str) -> str:
    return escape(one_line(text))
