"""How long a split will take: members, shifts and overlap counted, measured speed first."""

from __future__ import annotations

import pytest

from stembridge.catalog import find_model
from stembridge.estimate import pass_seconds, split_seconds
from stembridge.types import SplitRequest


def request(model: str, **more: object) -> SplitRequest:
    return SplitRequest("/a.wav", "/out", model, **{"overlap": 0.0, **more})  # type: ignore[arg-type]


def test_members_shifts_and_overlap_each_multiply_the_work() -> None:
    plain = find_model("htdemucs")
    bag = find_model("htdemucs_ft")
    assert pass_seconds(plain, request("htdemucs"), 60) == 60
    assert pass_seconds(plain, request("htdemucs", overlap=0.25), 60) == pytest.approx(80)
    assert pass_seconds(plain, request("htdemucs", shifts=3), 60) == 180
    assert pass_seconds(bag, request("htdemucs_ft"), 60) == 240
    assert pass_seconds(bag, request("htdemucs_ft", two_stems="vocals"), 60) == 60
    assert pass_seconds(bag, request("htdemucs_ft", stems=("drums", "bass")), 60) == 120


def test_what_was_measured_wins_over_what_is_reckoned() -> None:
    model, asked = find_model("htdemucs"), request("htdemucs")
    speeds = {"htdemucs on cpu": 0.5, "htdemucs on cuda": 0.01, "htdemucs_ft on cpu": 9.0}
    assert split_seconds(model, asked, 60, speeds, 1.0) == pytest.approx(0.6)
    slow = split_seconds(model, asked, 60, {}, 100.0)
    assert slow == pytest.approx(2 * split_seconds(model, asked, 60, {}, 200.0))
