"""The set that a remix is made of is taken as a whole; and no remix is called what means something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from remixes import MadeSet, factor, make_set, make_settings, remix, round_to, write_preset
from stembridge.errors import SourceError
from stembridge.mixdown.render import render_remix
from stembridge.types import RemixRequest, ResidualPolicy

QUIETER = "[stems.vocals]\ngain_db = -3.0"


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    middle = slice(len(data) // 2, len(data) // 2 + 500)
    data[middle] = bytes(byte ^ 1 for byte in data[middle])
    path.write_bytes(data)


@pytest.mark.parametrize("kind", ["remix", "ogg", "float"])
@pytest.mark.parametrize("is_missing", [False, True])
def test_a_set_whose_mixture_is_not_what_was_written_is_refused(
    tmp_path: Path, kind: str, is_missing: bool
) -> None:
    made = make_set(tmp_path, kind="pcm16" if kind == "remix" else kind)
    if kind != "ogg":
        first = remix(tmp_path, made, QUIETER, stems_out=True, job_id="first")
        made = MadeSet(first.folder, first.samples, first.manifest, first.stems)
    assert made.manifest.mixture is not None
    mixture = made.folder / made.manifest.mixture.file
    second = remix(tmp_path, made, QUIETER, job_id="second")
    expected = made.original + (
        round_to(factor(-3.0) * made.stems["vocals"], made.manifest.grid.stem_bits) - made.stems["vocals"]
    )
    assert np.array_equal(second.samples, expected)
    if is_missing:
        mixture.unlink()
    else:
        damage(mixture)
    out = tmp_path / "none"
    asked = RemixRequest(str(made.folder), str(out), str(write_preset(tmp_path, QUIETER)))
    told = []
    with pytest.raises(SourceError, match=mixture.name):
        for progress in render_remix(asked, "third", make_settings(tmp_path)):
            told.append(progress.stage)
    assert not (is_missing and told), "what can be seen at once is refused at once"
    assert not out.exists() or not list(out.iterdir())


@pytest.mark.parametrize("residual", [ResidualPolicy.OWN, ResidualPolicy.EQUAL])
@pytest.mark.parametrize("has_stems", [False, True])
@pytest.mark.parametrize("name", ["residual", "mixture", "Residual"])
def test_a_preset_may_be_called_what_a_file_of_a_set_is_called(
    tmp_path: Path, name: str, has_stems: bool, residual: ResidualPolicy
) -> None:
    made = make_set(tmp_path, residual=residual)
    found = remix(tmp_path, made, QUIETER, name=name, stems_out=has_stems)
    entry = found.manifest.mixture or found.manifest.stems[0]
    assert entry.name == f"{name} remix"
    vocals = round_to(factor(-3.0) * made.stems["vocals"], 23)
    assert np.array_equal(found.samples, made.original - made.stems["vocals"] + vocals)
    # And what comes of it is a set like any other.
    whole = MadeSet(found.folder, found.samples, found.manifest, found.stems)
    again = remix(
        tmp_path, whole, f"[stems.'{next(iter(found.stems), entry.name)}']\ngain_db = 0.0", job_id="2"
    )
    assert np.array_equal(again.samples, found.samples)


def test_the_residual_may_be_the_only_one_that_is_missing(tmp_path: Path) -> None:
    made = make_set(tmp_path)
    found = remix(tmp_path, made, "[stems.residual]\nmute = true", name="residual", stems_out=True)
    assert "residual" not in found.stems
    assert np.array_equal(found.samples, made.original - made.stems["residual"])
