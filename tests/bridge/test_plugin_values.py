"""The raw value of a text: what the plugin shows for it is what was asked for, or the number next to it."""

from __future__ import annotations

import pytest

from stembridge.plugins.values import find_raw_value


def show_db(raw: float) -> str:
    return "-inf dB" if raw == 0.0 else f"{-80.0 + 80.0 * raw:.6f} dB"


def show_frequency(raw: float) -> str:
    hertz = 20.0 * 1000.0**raw
    return f"{hertz / 1000:.2f} kHz" if hertz >= 1000 else f"{hertz:.0f} Hz"


def show_mode(raw: float) -> str:
    return ("Off", "Slow", "Fast")[min(2, int(raw * 3))]


@pytest.mark.parametrize("wanted", ["-20", "-20.0", "-20 dB", "-20.000000 dB", "-33.3333", "0", "-79.99"])
def test_a_number_is_met_as_finely_as_the_plugin_takes_it(wanted: str) -> None:
    raw = find_raw_value(show_db, wanted)
    assert raw is not None
    assert float(show_db(raw).split()[0]) == pytest.approx(float(wanted.split(maxsplit=1)[0]), abs=1e-4)


@pytest.mark.parametrize(
    ("wanted", "shown"), [("250", "250 Hz"), ("2500", "2.50 kHz"), ("2.5 kHz", "2.50 kHz"), ("20", "20 Hz")]
)
def test_kilo_counts(wanted: str, shown: str) -> None:
    raw = find_raw_value(show_frequency, wanted)
    assert raw is not None and show_frequency(raw) == shown


def test_a_number_that_goes_down_as_the_value_goes_up_is_met() -> None:
    raw = find_raw_value(lambda raw: f"{10 - 9 * raw:.4f}", "2.5")
    assert raw == pytest.approx(7.5 / 9, abs=1e-4)


def test_words_are_met_whatever_their_case() -> None:
    assert [show_mode(find_raw_value(show_mode, text) or 0.0) for text in ("off", "Slow", "FAST")] == [
        "Off", "Slow", "Fast",
    ]  # fmt: skip
    assert find_raw_value(show_db, "-inf dB") == 0.0


@pytest.mark.parametrize("wanted", ["20", "-81", "loud", "", "nan", "inf"])
def test_what_is_never_shown_has_no_raw_value(wanted: str) -> None:
    assert find_raw_value(show_db, wanted) is None
    assert find_raw_value(show_mode, wanted) is None
