"""The table of models: official names, order, weights, and what a wrong name is answered with."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from stembridge.catalog import CATALOG, FOUR_SOURCES, check_stems, find_model, members_needed
from stembridge.errors import ModelError


def test_every_promised_name_is_there() -> None:
    names = [model.name for model in CATALOG]
    assert len(set(names)) == len(names)
    assert set(names) >= {
        "htdemucs",
        "htdemucs_ft",
        "htdemucs_6s",
        "hdemucs_mmi",
        "mdx_extra",
        "mdx_extra_q",
        "torchaudio:hdemucs_high_musdb_plus",
        "torchaudio:hdemucs_high_musdb",
        "preview",
    }


@pytest.mark.parametrize("model", CATALOG, ids=lambda model: model.name)
def test_a_row_agrees_with_itself(model: object) -> None:
    row = find_model(str(getattr(model, "name", "")))
    assert row.sources[:4] == FOUR_SOURCES
    assert row.sample_rate == 44100
    assert row.description and "\n" not in row.description
    for member in row.members:
        assert re.fullmatch(r"[0-9a-f]{8}|hdemucs_high_\w+", member.signature)
        assert re.fullmatch(r"([0-9a-f]{8})?", member.checksum)
    if row.weights is not None:
        assert len(row.weights) == len(row.members)
        assert all(len(weights) == len(row.sources) for weights in row.weights)
        assert all(sum(column) > 0 for column in zip(*row.weights, strict=True))


def test_the_table_agrees_with_the_demucs_package() -> None:
    yaml = pytest.importorskip("yaml")
    pretrained = pytest.importorskip("demucs.pretrained")
    urls = pretrained._parse_remote_files(pretrained.REMOTE_ROOT / "files.txt")
    for model in CATALOG:
        if model.kind != "demucs":
            continue
        bag = yaml.safe_load((pretrained.REMOTE_ROOT / f"{model.name}.yaml").read_text())
        assert [member.signature for member in model.members] == bag["models"]
        assert model.segment_s == bag.get("segment")
        weights = bag.get("weights")
        assert model.weights == (weights and tuple(tuple(row) for row in weights))
        for member in model.members:
            assert urls[member.signature].endswith(
                f"/{member.folder}/{member.signature}-{member.checksum}.th"
            )


def test_a_wrong_name_is_answered_with_near_ones() -> None:
    with pytest.raises(ModelError, match="unknown model 'htdemucs_fd'") as caught:
        find_model("htdemucs_fd")
    assert "htdemucs_ft" in caught.value.hint
    assert "stembridge models list" in caught.value.hint


@pytest.mark.parametrize(
    "name",
    [
        "",
        "someone/htdemucs",
        "hf://htdemucs",
        "../htdemucs",
        "/m/htdemucs.th",
        "https://x/y",
        "HTDEMUCS",
        "955717e8",
    ],
)
def test_paths_namespaces_and_urls_are_no_names(name: str) -> None:
    with pytest.raises(ModelError):
        find_model(name)


def test_stems_come_in_the_models_order_and_wrong_ones_are_named() -> None:
    model = find_model("htdemucs_6s")
    assert check_stems(model, ["piano", "drums", "piano"]) == ("drums", "piano")
    assert check_stems(model, []) == model.sources
    with pytest.raises(ModelError, match="htdemucs has no stem 'piano'"):
        check_stems(find_model("htdemucs"), ["piano"])


def test_of_a_fine_tuned_bag_only_the_members_for_the_stems_are_needed() -> None:
    assert members_needed(find_model("htdemucs_ft"), ["vocals"]) == (3,)
    assert members_needed(find_model("htdemucs_ft"), ["vocals", "drums"]) == (0, 3)
    assert members_needed(find_model("mdx"), ["bass"]) == (0, 1)
    assert members_needed(find_model("mdx_extra"), ["bass"]) == (0, 1, 2, 3)
    assert members_needed(find_model("htdemucs"), []) == (0,)


def test_the_catalog_brings_only_the_standard_library() -> None:
    code = (
        "import sys, stembridge.catalog, stembridge.model_store\n"
        "print([m for m in ('torch', 'numpy', 'yaml', 'rich', 'click') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
