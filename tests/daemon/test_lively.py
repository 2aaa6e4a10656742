"""The weights that stand in for released ones: no layer of theirs hides, so that agreement means all of them.

A model of the official size, its segments shortened to a second. Rounding is what the same model gives by
another attention kernel; a layer that is left out has to stand out of that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
import torch

from model_files import official_htdemucs, one_thread

LEAST_COST_DB = 60.0
LAYERS = [(branch, place) for branch in ("layers", "layers_t") for place in range(5)]


class Bypass(torch.nn.Module):
    """A layer without its attention and its feed-forward part; the norm at its end still changes much."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.norm_out = layer.norm_out

    def forward(self, x: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        normal: torch.Tensor = self.norm_out(x)
        return normal


class Heard:
    """A model, what it makes of a noise, and how far rounding alone moves that, in dB."""

    def __init__(self) -> None:
        self.model: Any = official_htdemucs()
        self.model.segment = Fraction(1)
        self.noise = torch.randn(1, 2, 44_100, generator=torch.Generator().manual_seed(1))
        self.stems = self.run()
        was_fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            self.rounding_db = self.agreement_db()
        finally:
            torch.backends.mha.set_fastpath_enabled(was_fast)

    def run(self) -> torch.Tensor:
        with torch.inference_mode():
            stems: torch.Tensor = self.model(self.noise)
        return stems.double()

    def agreement_db(self) -> float:
        """Return how well the model as it is now agrees with the whole one."""
        error = float((self.run() - self.stems).square().sum())
        return 10 * math.log10(float(self.stems.square().sum()) / error)


@pytest.fixture(scope="module")
def heard() -> Iterator[Heard]:
    with one_thread():
        yield Heard()


@pytest.mark.parametrize(("branch", "place"), LAYERS)
def test_a_transformer_layer_left_out_is_heard(heard: Heard, branch: str, place: int) -> None:
    layers = getattr(heard.model.crosstransformer, branch)
    whole = layers[place]
    layers[place] = Bypass(whole)
    try:
        left_db = heard.agreement_db()
    finally:
        layers[place] = whole
    print(f"{left_db:.1f} dB without it, {heard.rounding_db:.1f} dB by rounding")
    assert heard.rounding_db >= 100.0
    assert heard.rounding_db - left_db > LEAST_COST_DB
