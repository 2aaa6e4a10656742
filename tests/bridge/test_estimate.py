"""How long a split will take: members, shifts and overlap counted, measured speed first."""

from __future__ import annotations

import pytest

from stembridge.catalog import find_model
from stembridge.estimate import measured_cost, pass_seconds, reckoned_cost, speed_name
from stembridge.matrix_speed import measure_gflops
from stembridge.types import Precision, Region, SplitRequest

SPEEDS = {
    "htdemucs on cpu": 0.5,
    "htdemucs on cuda": 0.01,
    "htdemucs half on cpu": 0.2,
    "htdemucs half on mps": 0.7,
    "htdemucs_ft on cpu": 9.0,
}


def request(model: str, **more: object) -> SplitRequest:
    return SplitRequest("/a.wav", "/out", model, **{"overlap": 0.0, **more})  # type: ignore[arg-type]


def test_members_shifts_and_overlap_each_multiply_the_work() -> None:
    plain = find_model("htdemucs")
    bag = find_model("htdemucs_ft")
    assert pass_seconds(plain, request("htdemucs"), 60) == pytest.approx(8 * 7.8)
    assert pass_seconds(plain, request("htdemucs", overlap=0.25), 60) == pytest.approx(10 * 7.8)
    assert pass_seconds(plain, request("htdemucs", shifts=3), 60) == pytest.approx(3 * 8 * 7.8)
    assert pass_seconds(bag, request("htdemucs_ft"), 60) == pytest.approx(4 * 8 * 7.8)
    assert pass_seconds(bag, request("htdemucs_ft", two_stems="vocals"), 60) == pytest.approx(8 * 7.8)
    assert pass_seconds(bag, request("htdemucs_ft", stems=("drums", "bass")), 60) == pytest.approx(16 * 7.8)


def test_a_short_item_costs_a_whole_segment_only_where_the_model_takes_no_shorter_one() -> None:
    for audio_s, segments in ((0.1, 1), (5, 1), (7.8, 1), (7.9, 2), (12, 2), (30, 5)):
        asked = request("htdemucs", overlap=0.25)
        assert pass_seconds(find_model("htdemucs"), asked, audio_s) == pytest.approx(segments * 7.8)
    for name in ("hdemucs_mmi", "preview", "torchaudio:hdemucs_high_musdb_plus"):
        assert pass_seconds(find_model(name), request(name, overlap=0.25), 5) == 5
    # Three segments of 44 s, of which neighbours share a quarter.
    asked = request("hdemucs_mmi", overlap=0.25)
    assert pass_seconds(find_model("hdemucs_mmi"), asked, 100) == pytest.approx(100 + 2 * 11)


def test_a_region_on_its_source_s_grid_costs_the_segments_that_it_only_touches() -> None:
    plain = find_model("htdemucs")
    region = Region(44_100, 5 * 44_100)
    assert pass_seconds(plain, request("htdemucs", region=region), 5) == 7.8
    assert pass_seconds(plain, request("htdemucs", region=region, on_source_grid=True), 5) == 5 + 7.8
    assert pass_seconds(plain, request("htdemucs", on_source_grid=True), 60) == pytest.approx(8 * 7.8)


@pytest.mark.parametrize(
    ("device", "full", "half"),
    [("cpu", 0.5, 0.2), ("cuda", 0.01, None), ("mps", None, 0.7), ("auto", 0.5, 0.7)],
)
def test_what_was_measured_on_the_device_at_hand_in_this_precision_counts_and_no_other(
    device: str, full: float | None, half: float | None
) -> None:
    model = find_model("htdemucs")
    assert measured_cost(model, Precision.FULL, SPEEDS, device) == full
    assert measured_cost(model, Precision.HALF, SPEEDS, device) == half


def test_speeds_of_full_precision_are_kept_under_the_model_s_own_name() -> None:
    assert speed_name("htdemucs", Precision.FULL) == "htdemucs"
    assert speed_name("htdemucs", Precision.HALF) == "htdemucs half"


def test_a_model_that_never_ran_is_reckoned_from_the_matrix_speed() -> None:
    assert measured_cost(find_model("mdx"), Precision.FULL, SPEEDS, "auto") is None
    model = find_model("htdemucs")
    # 334.9 GFLOP for a segment of 7.8 s, at 0.6 of the peak.
    assert reckoned_cost(model, 400.0) * 7.8 == pytest.approx(334.9 / (0.6 * 400.0), rel=0.002)
    # Models that stock's forward runs are slower.
    assert reckoned_cost(find_model("mdx"), 100.0) > 1.5 * reckoned_cost(model, 100.0)
    assert reckoned_cost(model, 100.0) == pytest.approx(2 * reckoned_cost(model, 200.0))
    assert reckoned_cost(find_model("preview"), 100.0) == reckoned_cost(find_model("preview"), 200.0)
    assert measure_gflops() > 0
