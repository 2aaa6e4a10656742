"""The loader: official layouts load, and what a file says never chooses what code runs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from demucs.hdemucs import HDemucs
from demucs.htdemucs import HTDemucs

from model_files import (
    FOUR,
    SIX,
    make_lively,
    official_htdemucs,
    one_thread,
    package_of,
    quantized_state,
    small_hdemucs,
    small_htdemucs,
    small_torchaudio,
    write_bag,
    write_package,
    write_safetensors,
    write_state,
    write_th,
)
from stembridge.catalog import find_model
from stembridge.errors import ModelError
from stembridge.model_store import ModelFiles, file_sha256, locate
from stembridge_daemon.worker import models
from stembridge_daemon.worker.models import load_separator
from stembridge_daemon.worker.separators import torchaudio_hdemucs
from stembridge_daemon.worker.separators.base import SeparationPlan, Separator

SIGNATURE = "955717e8"


def load(name: str, folder: Path) -> Separator:
    files = locate(find_model(name), [folder])
    assert files is not None
    return load_separator(name, files)


def load_file(path: Path) -> Separator:
    """Load one file as htdemucs."""
    return load_separator("htdemucs", ModelFiles("htdemucs", path.parent, (path,)))


def first_module(separator: Separator) -> Any:
    """Return the module of the first member."""
    return separator._runners[0].module  # type: ignore[attr-defined]


def assert_refused(path: Path, match: str | None = None) -> None:
    with pytest.raises(ModelError, match=match) as caught:
        load_file(path)
    assert "\n" not in caught.value.message
    assert str(path) in caught.value.message


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture
def htdemucs() -> Any:
    return small_htdemucs(1, t_layers=1, dconv_mode=1)


@pytest.mark.parametrize("write", [write_th, write_safetensors])
def test_a_file_in_an_official_layout_gives_the_same_weights(
    tmp_path: Path, htdemucs: Any, write: Callable[[Any, Path, str], Path]
) -> None:
    path = write(htdemucs, tmp_path, SIGNATURE)
    separator = load("htdemucs", tmp_path)
    module = first_module(separator)
    assert separator.sha256 == file_sha256(path)
    assert module.segment == Fraction(1)
    assert isinstance(module.segment, Fraction)
    assert not module.training
    for key, value in htdemucs.state_dict().items():
        loaded = module.state_dict()[key]
        assert loaded.dtype == torch.float32
        assert torch.equal(loaded, value), key


def test_a_file_without_a_checksum_loads_and_unknown_arguments_are_dropped(
    tmp_path: Path, htdemucs: Any
) -> None:
    package = package_of(htdemucs)
    package["kwargs"] = {**package["kwargs"], "a_later_option": 3}
    write_package(package, tmp_path, SIGNATURE, with_checksum=False)
    assert load("htdemucs", tmp_path).sources == FOUR


def test_a_class_under_its_old_name_loads(tmp_path: Path) -> None:
    module = small_hdemucs(2)
    write_safetensors(module, tmp_path, "75fc33f5", klass="demucs.wdemucs.WDemucs")
    assert isinstance(first_module(load("hdemucs_mmi", tmp_path)), HDemucs)


@pytest.mark.parametrize("layout", ["th", "safetensors"])
@pytest.mark.parametrize("torch_pack", [False, True])
def test_packed_states_load(tmp_path: Path, layout: str, torch_pack: bool) -> None:
    module = small_hdemucs(20)
    state, weights = quantized_state(module, torch_pack=torch_pack, group_size=4, min_size=0.05)
    if layout == "th":
        write_package(package_of(module, state), tmp_path, "83fc094f")
    else:
        write_safetensors(module, tmp_path, "83fc094f", state=state)
    write_bag(tmp_path, "mdx_extra_q", ["83fc094f"])
    got = first_module(load("mdx_extra_q", tmp_path)).state_dict()
    assert set(got) == set(weights)
    assert all(torch.allclose(got[key], value, rtol=0, atol=1e-6) for key, value in weights.items())
    assert any(not torch.equal(got[key], value) for key, value in module.state_dict().items())


def test_the_official_size_has_the_official_number_of_parameters() -> None:
    assert sum(parameter.numel() for parameter in official_htdemucs().parameters()) == 41_984_456


def test_torchaudios_bundle_loads_strictly(tmp_path: Path) -> None:
    module = small_torchaudio(3)
    write_state(module, tmp_path / "hdemucs_high_musdbhq_only.pt")
    separator = load("torchaudio:hdemucs_high_musdb", tmp_path)
    assert separator.segment_frames == torchaudio_hdemucs.SEGMENT_S * 44100 == 441_000
    state = module.state_dict()
    del state["freq_emb.embedding.weight"]
    torch.save(state, tmp_path / "hdemucs_high_musdbhq_only.pt")
    with pytest.raises(ModelError, match=r"freq_emb\.embedding\.weight"):
        load("torchaudio:hdemucs_high_musdb", tmp_path)


def test_torchaudios_shortest_inputs() -> None:
    module = small_torchaudio(3)
    for frames in (1, 768, 769, 1024, 1025, 1280, 1281, 2049):
        wanted = torchaudio_hdemucs.input_frames(frames)
        assert module(torch.zeros(1, 2, wanted)).shape == (1, 4, 2, wanted)
        if wanted > frames:
            with pytest.raises(ValueError, match="last dimension"):
                module(torch.zeros(1, 2, frames))


class Evil:
    """Pickles as a call of ``os.system``."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.canary}",)


class Construct:
    """Pickles as a call of HTDemucs, which a file may name but not make."""

    def __reduce__(self) -> Any:
        return HTDemucs, (list(FOUR),)


@pytest.mark.parametrize("where", ["whole", "state", "training_args"])
def test_a_pickle_that_calls_something_is_refused_and_nothing_runs(
    tmp_path: Path, htdemucs: Any, where: str
) -> None:
    canary = tmp_path / "canary"
    package: Any = package_of(htdemucs)
    if where == "whole":
        package = Evil(canary)
    else:
        package[where] = {"x": Evil(canary)}
    assert_refused(write_package(package, tmp_path, SIGNATURE), r"it asks for (posix|nt)\.system")
    assert not canary.exists()


def test_torchs_own_net_holds_behind_ours(
    tmp_path: Path, htdemucs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "_check_pickle", lambda path: None)
    canary = tmp_path / "canary"
    assert_refused(write_package(package_of(htdemucs, {"x": Evil(canary)}), tmp_path, SIGNATURE))
    assert not canary.exists()
    assert_refused(write_package(package_of(htdemucs, {"x": Construct()}), tmp_path, "other"))


def test_a_class_may_be_named_but_not_made(tmp_path: Path, htdemucs: Any) -> None:
    assert_refused(write_package(package_of(htdemucs, {"x": Construct()}), tmp_path, SIGNATURE), "NamedClass")


@pytest.mark.parametrize("klass", ["os.system", "subprocess.Popen", "demucs.htdemucs.nn.Linear", ""])
def test_a_safetensors_file_cannot_choose_a_class(tmp_path: Path, htdemucs: Any, klass: str) -> None:
    canary = tmp_path / "canary"
    args = json.dumps([f"touch {canary}"])
    path = write_safetensors(htdemucs, tmp_path, SIGNATURE, klass=klass, args=args, kwargs="{}")
    assert_refused(path, "not one of Demucs")
    assert not canary.exists()


def test_a_packed_state_cannot_choose_a_quantizer(tmp_path: Path, htdemucs: Any) -> None:
    canary = tmp_path / "canary"
    state, _ = quantized_state(htdemucs)
    state["meta"] = {**state["meta"], "klass": os.system, "init_kwargs": {"command": f"touch {canary}"}}
    assert_refused(
        write_package(package_of(htdemucs, state), tmp_path, SIGNATURE), "it asks for posix.system"
    )
    for klass in (Path, HTDemucs):
        state["meta"]["klass"] = klass
        path = write_safetensors(htdemucs, tmp_path, SIGNATURE, state=state)
        assert_refused(path, "a quantizer that is none")
    assert not canary.exists()


def test_a_packed_state_of_another_shape_is_refused(tmp_path: Path, htdemucs: Any) -> None:
    state, _ = quantized_state(htdemucs)
    short = state | {"others": state["others"][:-1]}
    assert_refused(write_package(package_of(htdemucs, short), tmp_path, SIGNATURE), "others: no list of")
    state["others"] = [tensor[:1] for tensor in state["others"]]
    path = write_package(package_of(htdemucs, state), tmp_path, "other")
    assert_refused(path, r"encoder\.0\.conv\.weight: no torch.float32 of shape")


@pytest.mark.parametrize("content", [b"", b"not a model", b"PK\x03\x04", b"\x80\x02}q\x00."])
@pytest.mark.parametrize("suffix", [".th", ".safetensors"])
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"{SIGNATURE}{suffix}"
    path.write_bytes(content)
    assert_refused(path, "damaged or cut off")


@pytest.mark.parametrize("write", [write_th, write_safetensors])
@pytest.mark.parametrize("kept", [0.999, 0.5, 0.01])
def test_a_file_that_is_cut_off_is_refused(
    tmp_path: Path, htdemucs: Any, write: Callable[[Any, Path, str], Path], kept: float
) -> None:
    written = write(htdemucs, tmp_path, SIGNATURE)
    content = written.read_bytes()
    path = tmp_path / f"cut{written.suffix}"
    path.write_bytes(content[: int(kept * len(content))])
    assert_refused(path, "damaged or cut off")


def test_a_checksum_that_does_not_hold_is_refused(tmp_path: Path, htdemucs: Any) -> None:
    path = write_th(htdemucs, tmp_path, SIGNATURE)
    wrong = path.rename(tmp_path / f"{SIGNATURE}-00000000.th")
    assert_refused(wrong, "its name says 00000000")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda state: state.pop("encoder.0.conv.weight"), r"Missing key.*encoder\.0\.conv\.weight"),
        (lambda state: state.update(extra=torch.zeros(1)), "Unexpected key.*extra"),
        (lambda state: state.update({"encoder.0.conv.weight": torch.zeros(3)}), "size mismatch"),
        (lambda state: state.update({"encoder.0.conv.weight": 3}), "is no tensor"),
        (lambda state: state["encoder.0.conv.weight"].fill_(float("nan")), "not finite"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    tmp_path: Path, htdemucs: Any, change: Callable[[dict[str, Any]], Any], match: str
) -> None:
    package = package_of(htdemucs)
    change(package["state"])
    assert_refused(write_package(package, tmp_path, SIGNATURE), match)


@pytest.mark.parametrize(
    "kwargs",
    ['{"sources": 3}', '{"sources": ["a"], "depth": -1}', '{"sources": ["a"], "nfft": 0}', "[]", "nonsense",
     '{"sources": ["a"], "segment": {"_type": "fraction", "numerator": 1, "denominator": 0}}',
     '{"sources": ["a"], "segment": -1}'],
)  # fmt: skip
def test_arguments_that_build_nothing_are_refused(tmp_path: Path, htdemucs: Any, kwargs: str) -> None:
    assert_refused(write_safetensors(htdemucs, tmp_path, SIGNATURE, args="[]", kwargs=kwargs))


@pytest.mark.parametrize("value", [torch.tensor(8), HTDemucs, {"deep": [torch.tensor(8)]}])
def test_arguments_are_numbers_and_text(tmp_path: Path, htdemucs: Any, value: Any) -> None:
    package = package_of(htdemucs)
    package["kwargs"] = {**package["kwargs"], "t_lr": value}
    assert_refused(write_package(package, tmp_path, SIGNATURE), "more than numbers and text")


def test_a_fraction_is_two_short_numbers() -> None:
    assert models._make_fraction("39/5") == models._make_fraction(39, 5) == Fraction(39, 5)
    assert models._make_fraction("7") == 7
    for parts in (
        ("1e9",),
        ("1e99999999999999999999",),
        ("39/5/2",),
        ("x",),
        ("",),
        (1, 2, 3),
        (10**20, 1),
        (),
    ):
        with pytest.raises(ValueError, match=r"fraction|invalid literal"):
            models._make_fraction(*parts)


def test_members_that_disagree_are_refused(tmp_path: Path) -> None:
    def narrow(samplerate: int, channels: int) -> Any:
        return make_lively(
            lambda: HTDemucs(
                list(FOUR), channels=8, t_layers=0, segment=1, samplerate=samplerate, audio_channels=channels
            ),
            5,
        )

    model = find_model("htdemucs_ft")
    for place, other in ((1, narrow(48000, 2)), (2, narrow(44100, 1))):
        for number, member in enumerate(model.members):
            write_safetensors(other if number == place else narrow(44100, 2), tmp_path, member.signature)
        with pytest.raises(ModelError, match="the other members of htdemucs_ft at 44100 Hz with 2"):
            load("htdemucs_ft", tmp_path)


def test_a_model_of_other_sources_is_refused(tmp_path: Path) -> None:
    path = write_th(small_htdemucs(1, SIX, t_layers=1), tmp_path, SIGNATURE)
    assert_refused(path, "knows drums, bass, other, vocals, guitar, piano, but htdemucs is")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (f"models: ['{SIGNATURE}']\nweights: [[1., 1., 1.]]", "1 rows of 4 numbers"),
        (f"models: ['{SIGNATURE}']\nweights: [[1., 1., 1., 0.]]", "1 rows of 4 numbers"),
        (f"models: ['{SIGNATURE}']\nweights: [[1., 1., 1., .nan]]", "1 rows of 4 numbers"),
        (f"models: ['{SIGNATURE}']\nsegment: -3", "segment -3 must be"),
        (f"models: ['{SIGNATURE}']\nsegment: yes", "segment True must be"),
        (f"models: ['{SIGNATURE}']\nweights: !!python/object/apply:os.system [x]", "cannot be read"),
        (f"models: ['{SIGNATURE}']\n]", "cannot be read"),
    ],
)
def test_a_bag_that_is_not_as_it_must_be_is_refused(
    tmp_path: Path, htdemucs: Any, text: str, match: str
) -> None:
    write_th(htdemucs, tmp_path, SIGNATURE)
    (tmp_path / "htdemucs.yaml").write_text(text, "utf-8")
    with pytest.raises(ModelError, match=match) as caught:
        load("htdemucs", tmp_path)
    assert "\n" not in caught.value.message


def test_a_bags_segment_shortens_a_transformers_and_replaces_others(tmp_path: Path) -> None:
    for segment, want in ((0.5, 22050), (3, 44100)):
        write_th(small_htdemucs(1, t_layers=1), tmp_path, SIGNATURE)
        write_bag(tmp_path, "htdemucs", [SIGNATURE], segment=segment)
        assert load("htdemucs", tmp_path).segment_frames == want
    write_th(small_hdemucs(1, segment=5), tmp_path, "75fc33f5")
    assert load("hdemucs_mmi", tmp_path).segment_frames == 44 * 44100


def test_a_bag_of_ones_own_is_loaded_whole(tmp_path: Path, htdemucs: Any) -> None:
    write_th(htdemucs, tmp_path, "aaaa1111")
    write_th(htdemucs, tmp_path, "bbbb2222")
    write_bag(tmp_path, "htdemucs", ["aaaa1111", "bbbb2222"], weights=[[1, 1, 1, 0], [0, 0, 0, 1]])
    files = locate(find_model("htdemucs"), [tmp_path])
    assert files is not None
    separator = load_separator("htdemucs", files, stems=("vocals",))
    assert separator.count_steps([1000], SeparationPlan(("drums",))) == 1
    assert separator.count_steps([1000], SeparationPlan(("drums", "vocals"))) == 2


def test_another_bag_is_another_model(tmp_path: Path, htdemucs: Any) -> None:
    write_th(htdemucs, tmp_path, SIGNATURE)
    plain = load("htdemucs", tmp_path).sha256
    write_bag(tmp_path, "htdemucs", [SIGNATURE], segment=0.5)
    assert load("htdemucs", tmp_path).sha256 != plain


def test_the_preview_has_nothing_to_load() -> None:
    with pytest.raises(ModelError, match="preview has no files"):
        load_separator("preview", ModelFiles("preview", None, ()))
