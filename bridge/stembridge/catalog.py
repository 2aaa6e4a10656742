"""The models by their official names: what they know, what they are made of, what they weigh.

The facts come from demucs 4.1.0 (``demucs/remote/*.yaml`` and ``files.txt``) and torchaudio 2.11
(``torchaudio/pipelines``). A bag is several models whose outputs are averaged with a weight per source.
Standard library only: the front, the client and the CLI's start-up read this table.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from stembridge.errors import ModelError

FOUR_SOURCES = ("drums", "bass", "other", "vocals")
SIX_SOURCES = (*FOUR_SOURCES, "guitar", "piano")
SAMPLE_RATE = 44100


class ModelKind(StrEnum):
    """Which separator runs a model."""

    DEMUCS = "demucs"
    TORCHAUDIO = "torchaudio"
    PREVIEW = "preview"


@dataclass(frozen=True, slots=True)
class Member:
    """One model of a bag.

    Parameters
    ----------
    signature : name of its file without checksum and suffix
    checksum : first 8 hex digits of the sha256 of the official ``.th`` file; '' where none is published
    folder : folder of the official ``.th`` file below demucs' root; '' where there is none
    """

    signature: str
    checksum: str = ""
    folder: str = ""


@dataclass(frozen=True, slots=True)
class CatalogModel:
    """One row of the table.

    Parameters
    ----------
    name : official name
    kind : which separator runs it
    sources : what it knows, in the order of the model's output
    members : the models it consists of; empty for the preview
    description : one line for a person
    weights : weight of each member per source; None means one each
    segment_s : segment in seconds that replaces the members' own; None leaves theirs
    size_bytes : download in bytes, reckoned from the number of parameters; None where it is not known
    sample_rate : rate in Hz that the model was trained on
    """

    name: str
    kind: ModelKind
    sources: tuple[str, ...]
    members: tuple[Member, ...]
    description: str
    weights: tuple[tuple[float, ...], ...] | None = None
    segment_s: float | None = None
    size_bytes: int | None = None
    sample_rate: int = SAMPLE_RATE


def _members(folder: str, *files: str) -> tuple[Member, ...]:
    """Return members from 'signature-checksum' names."""
    return tuple(Member(file[:8], file[9:], folder) for file in files)


_TRANSFORMER = "hybrid_transformer"
_MDX = "mdx_final"
_ONE_EACH = tuple(tuple(float(row == column) for column in range(4)) for row in range(4))
_MDX_WEIGHTS = ((1.0, 1.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (1.0, 0.0, 1.0, 1.0), (1.0, 0.0, 1.0, 1.0))
_HTDEMUCS_BYTES = 84_000_000
"""41,984,456 parameters in half precision."""
_HTDEMUCS_6S_BYTES = 54_900_000
"""27,414,996 parameters in half precision."""
_HDEMUCS_BYTES = 167_300_000
"""83,637,832 parameters in half precision."""

CATALOG: tuple[CatalogModel, ...] = (
    CatalogModel(
        "htdemucs",
        ModelKind.DEMUCS,
        FOUR_SOURCES,
        _members(_TRANSFORMER, "955717e8-8726e21a"),
        "Hybrid Transformer Demucs, trained on MUSDB and 800 more songs",
        size_bytes=_HTDEMUCS_BYTES,
    ),
    CatalogModel(
        "htdemucs_ft",
        ModelKind.DEMUCS,
        FOUR_SOURCES,
        _members(
            _TRANSFORMER, "f7e0c4bc-ba3fe64a", "d12395a8-e57c48e6", "92cfc3b6-ef3bcb9c", "04573f0d-f3cf25b2"
        ),
        "htdemucs fine-tuned once per source: one model per stem, four times the time for all",
        weights=_ONE_EACH,
        size_bytes=4 * _HTDEMUCS_BYTES,
    ),
    CatalogModel(
        "htdemucs_6s",
        ModelKind.DEMUCS,
        SIX_SOURCES,
        _members(_TRANSFORMER, "5c90dfd2-34c22ccb"),
        "htdemucs with guitar and piano besides; its piano is weak",
        size_bytes=_HTDEMUCS_6S_BYTES,
    ),
    CatalogModel(
        "hdemucs_mmi",
        ModelKind.DEMUCS,
        FOUR_SOURCES,
        _members(_TRANSFORMER, "75fc33f5-1941ce65"),
        "Hybrid Demucs v3, retrained on MUSDB and 800 more songs",
        segment_s=44,
        size_bytes=_HDEMUCS_BYTES,
    ),
    CatalogModel(
        "mdx",
        ModelKind.DEMUCS,
        FOUR_SOURCES,
        _members(_MDX, "0d19c1c6-0f06f20e", "7ecf8ec1-70f50cc9", "c511e2ab-fe698775", "7d865c68-3d5dd56b"),
        "winner of track A of the MDX challenge 2021, trained on MUSDB alone",
        weights=_MDX_WEIGHTS,
        segment_s=44,
    ),
    CatalogModel(
        "mdx_extra",
        ModelKind.DEMUCS,
        FOUR_SOURCES,
        _members(_MDX, "e51eebcc-c1b80bdd", "a1d90b5c-ae9d2452", "5d2d6c55-db83574e", "cfa93e08-61801ae1"),
        "four models from the MDX challenge 2021, trained with more songs",
        segment_s=44,
    ),
    CatalogModel(
        "mdx_q",
        ModelKind.DEMUCS,
        FOUR_SOURCES,
        _members(_MDX, "6b9c2ca1-3fd82607", "b72baf4e-8778635e", "42e558d4-196e0e1b", "305bc58f-18378783"),
        "mdx with quantized weights: a smaller download, slightly worse",
        weights=_MDX_WEIGHTS,
        segment_s=44,
    ),
    CatalogModel(
        "mdx_extra_q",
        ModelKind.DEMUCS,
        FOUR_SOURCES,
        _members(_MDX, "83fc094f-4a16d450", "464b36d7-e5a9386e", "14fc6a69-a89dd0ee", "7fd6ef75-a905dd85"),
        "mdx_extra with quantized weights: a smaller download, slightly worse",
        segment_s=44,
    ),
    CatalogModel(
        "torchaudio:hdemucs_high_musdb_plus",
        ModelKind.TORCHAUDIO,
        FOUR_SOURCES,
        (Member("hdemucs_high_trained"),),
        "torchaudio's Hybrid Demucs, trained on MUSDB-HQ and 150 more songs",
        size_bytes=334_600_000,
    ),
    CatalogModel(
        "torchaudio:hdemucs_high_musdb",
        ModelKind.TORCHAUDIO,
        FOUR_SOURCES,
        (Member("hdemucs_high_musdbhq_only"),),
        "torchaudio's Hybrid Demucs, trained on the training set of MUSDB-HQ alone",
        size_bytes=334_600_000,
    ),
    CatalogModel(
        "preview",
        ModelKind.PREVIEW,
        FOUR_SOURCES,
        (),
        "no weights, preview quality: signal processing for machines where no model can be had",
        size_bytes=0,
    ),
)
"""Every model, in the order in which a person should read them."""

_BY_NAME = {model.name: model for model in CATALOG}


def find_model(name: str) -> CatalogModel:
    """Return the model of that official name.

    Raises
    ------
    ModelError
        There is none: paths, URLs and names of other people's models are not looked up anywhere.
    """
    found = _BY_NAME.get(name)
    if found is None:
        near = difflib.get_close_matches(name, _BY_NAME, n=3, cutoff=0.5)
        meant = f"did you mean {' or '.join(near)}? " if near else ""
        raise ModelError(f"unknown model {name[:80]!r}", f"{meant}`stembridge models list` shows all")
    return found


def check_stems(model: CatalogModel, stems: Sequence[str]) -> tuple[str, ...]:
    """Return ``stems`` in the model's order without repeats; none asked means all.

    Raises
    ------
    ModelError
        A stem that the model does not know.
    """
    for stem in stems:
        if stem not in model.sources:
            raise ModelError(
                f"model {model.name} has no stem {stem[:80]!r}", f"it knows {', '.join(model.sources)}"
            )
    return tuple(source for source in model.sources if source in stems) if stems else model.sources


def members_needed(model: CatalogModel, stems: Sequence[str]) -> tuple[int, ...]:
    """Return the places of the members that have a weight for one of the wanted stems; none means all."""
    wanted = [model.sources.index(stem) for stem in check_stems(model, stems)]
    if model.weights is None:
        return tuple(range(len(model.members)))
    return tuple(place for place, row in enumerate(model.weights) if any(row[source] for source in wanted))
