"""What a person is told of a set's sum is what its manifest claims, no more."""

from __future__ import annotations

import pytest

from stembridge import manifest as m
from stembridge.stem_table import claim_sentence

HASH = "0" * 64


def make_manifest(claims: m.Claims, mixture: str | None) -> m.Manifest:
    return m.Manifest(
        generator=m.Generator("0.1.0"),
        job="job",
        created=m.timestamp(0.0),
        source=m.SourceEntry("/x.wav", HASH, 48_000, 100, 2, "FLOAT", m.RegionEntry(0, 100), ((0, 1),)),
        model=m.ModelEntry("fake", HASH, "full", 0, 0, 0.25),
        grid=m.GridEntry(23, None),
        claims=claims,
        residual=m.ResidualEntry("own", -40.5),
        stems=(m.StemEntry("drums", "x - drums.wav", "FLOAT", HASH, HASH),),
        deterministic=True,
        mixture=m.StemEntry("mixture", mixture, "FLOAT", HASH, HASH) if mixture else None,
    )


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        (m.Claims(True, True, 1.0, 1.0, 0.0), "exactly, mixed in 64-bit and 32-bit, in any order"),
        (m.Claims(True, False, 3.0, 3.0, 0.0), "exactly, mixed in 64-bit, in any order"),
        (m.Claims(False, False, 1.0, 1.0, 2.0**-30, 7), ", off by at most -181 dBFS"),
        (m.Claims(False, False, 1.0, 1.0, 0.0, 7), "exactly in every order that was tried"),
    ],
)
def test_the_sentence_says_what_is_claimed(claims: m.Claims, words: str) -> None:
    sentence = claim_sentence(make_manifest(claims, None))
    assert sentence.startswith("sums back to the original") and sentence.endswith(words)
    lossy = claim_sentence(make_manifest(claims, "x - mixture.wav"))
    assert "the original as decoded, 'x - mixture.wav'," in lossy and lossy.endswith(words)
