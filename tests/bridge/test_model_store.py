"""Model files: found in every layout, downloaded whole or not at all, and continued after a break."""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import shutil
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from model_place import CONTENT, HUB_PATH, Place
from stembridge import model_store
from stembridge.catalog import CATALOG, CatalogModel, Member, find_model
from stembridge.cli import models as cli_models
from stembridge.errors import ModelError
from stembridge.model_store import (
    FetchPlan,
    ModelFiles,
    Origins,
    RemoteFile,
    checksum_in_name,
    fetch,
    foreign_folders,
    locate,
    plan_fetch,
)

HTDEMUCS = find_model("htdemucs")
FINE_TUNED = find_model("htdemucs_ft")
BUNDLE = find_model("torchaudio:hdemucs_high_musdb_plus")


def touch(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def found(model: CatalogModel, *folders: Path) -> list[str]:
    files = locate(model, folders)
    return [] if files is None else [path.name for path in files.members]


def test_the_first_folder_that_holds_all_members_counts(tmp_path: Path) -> None:
    signatures = [member.signature for member in FINE_TUNED.members]
    touch(tmp_path / "part", *(f"{signature}.th" for signature in signatures[:3]))
    touch(tmp_path / "all", *(f"{signature}.safetensors" for signature in signatures))
    touch(tmp_path / "later", *(f"{signature}.th" for signature in signatures))
    folders = [tmp_path / "absent", tmp_path / "part", tmp_path / "all", tmp_path / "later"]
    files = locate(FINE_TUNED, folders)
    assert files is not None
    assert files.folder == tmp_path / "all"
    assert [path.name for path in files.members] == [f"{signature}.safetensors" for signature in signatures]
    assert locate(FINE_TUNED, folders[:2]) is None


@pytest.mark.parametrize(
    ("names", "want"),
    [
        (["955717e8-8726e21a.th"], "955717e8-8726e21a.th"),
        (["955717e8.th"], "955717e8.th"),
        (["955717e8-01234567.th"], "955717e8-01234567.th"),
        (["955717e8-01234567.th", "955717e8-8726e21a.th"], "955717e8-8726e21a.th"),
        (["955717e8.safetensors", "955717e8-8726e21a.th"], "955717e8.safetensors"),
    ],
)
def test_every_layout_is_found(tmp_path: Path, names: list[str], want: str) -> None:
    touch(tmp_path, *names, "unrelated.th")
    assert found(HTDEMUCS, tmp_path) == [want]


@pytest.mark.parametrize("name", ["955717e8.th.part", "955717e8-8726.th", "x955717e8.th", "955717e8.pt"])
def test_other_names_are_not_taken(tmp_path: Path, name: str) -> None:
    touch(tmp_path, name)
    assert found(HTDEMUCS, tmp_path) == []


def test_two_unofficial_files_for_one_model_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "955717e8-00000001.th", "955717e8-00000002.th")
    with pytest.raises(ModelError, match=r"955717e8-00000001\.th and 955717e8-00000002\.th"):
        locate(HTDEMUCS, [tmp_path])


@pytest.mark.parametrize(
    "text", ["models: ['aaaa1111', 'bbbb2222']\n", "segment: 4\nmodels:\n- aaaa1111\n- bbbb2222\n"]
)
def test_a_bags_yaml_in_the_folder_replaces_the_members(tmp_path: Path, text: str) -> None:
    (tmp_path / "htdemucs.yaml").write_text(text)
    touch(tmp_path, "955717e8.th", "aaaa1111.th")
    assert locate(HTDEMUCS, [tmp_path]) is None
    touch(tmp_path, "bbbb2222-01234567.th")
    files = locate(HTDEMUCS, [tmp_path])
    assert files is not None
    assert files.bag == tmp_path / "htdemucs.yaml"
    assert [path.name for path in files.members] == ["aaaa1111.th", "bbbb2222-01234567.th"]


def test_a_bag_cannot_point_out_of_its_folder(tmp_path: Path) -> None:
    touch(tmp_path, "secret.th")
    touch(tmp_path / "models")
    (tmp_path / "models" / "htdemucs.yaml").write_text("models: ['../secret']\n")
    assert locate(HTDEMUCS, [tmp_path / "models"]) is None


def test_torchaudios_bundle_and_the_preview(tmp_path: Path) -> None:
    touch(tmp_path, "hdemucs_high_trained.pt")
    assert found(BUNDLE, tmp_path) == ["hdemucs_high_trained.pt"]
    assert locate(find_model("preview"), []) == ModelFiles("preview", None, ())


def test_the_places_of_demucs_and_torchaudio_are_known(tmp_path: Path) -> None:
    snapshot = tmp_path / ".cache/huggingface/hub/models--adefossez--HTDemucs/snapshots/0123abcd"
    touch(snapshot, "955717e8.safetensors", "htdemucs.yaml")
    (snapshot / "htdemucs.yaml").write_text("models: ['955717e8']\n")
    assert found(HTDEMUCS, *foreign_folders(HTDEMUCS, {}, tmp_path)) == ["955717e8.safetensors"]
    torch_home = {"TORCH_HOME": str(tmp_path / "torch")}
    touch(tmp_path / "torch/hub/checkpoints", "955717e8-8726e21a.th")
    touch(tmp_path / "torch/hub/torchaudio/models", "hdemucs_high_trained.pt")
    elsewhere = tmp_path / "elsewhere"
    assert found(HTDEMUCS, *foreign_folders(HTDEMUCS, torch_home, elsewhere)) == ["955717e8-8726e21a.th"]
    assert found(BUNDLE, *foreign_folders(BUNDLE, torch_home, elsewhere)) == ["hdemucs_high_trained.pt"]


@pytest.mark.parametrize(
    ("name", "want"),
    [("a-01234567.th", "01234567"), ("a.th", ""), ("a-01234567.safetensors", ""), ("a-xyz.th", "")],
)
def test_the_checksum_in_a_name(name: str, want: str) -> None:
    assert checksum_in_name(Path("folder-89abcdef") / name) == want


def plan_of(place: Place, into: Path, model: CatalogModel = HTDEMUCS) -> FetchPlan:
    return plan_fetch(model, into, origins=place.origins, timeout_s=5)


def test_a_model_is_asked_for_and_fetched_with_progress(place: Place, tmp_path: Path) -> None:
    into = tmp_path / "new" / "models"
    plan = plan_of(place, into)
    assert plan.size_bytes == len(CONTENT)
    assert not into.exists()
    seen: list[tuple[int, int | None]] = []
    (path,) = fetch(plan, lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert sorted(one.name for one in into.iterdir()) == [".fetch.lock", "955717e8.safetensors"]
    assert found(HTDEMUCS, into) == ["955717e8.safetensors"]
    assert plan_of(place, into).files == ()


def test_the_legacy_place_is_second_and_its_checksum_is_checked(place: Place, tmp_path: Path) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()[:8]
    model = replace(HTDEMUCS, members=(Member("955717e8", digest, "hybrid_transformer"),))
    place.files = {f"/legacy/hybrid_transformer/955717e8-{digest}.th": CONTENT}
    (path,) = fetch(plan_of(place, tmp_path, model))
    assert path.name == f"955717e8-{digest}.th"
    path.unlink()
    place.files = {f"/legacy/hybrid_transformer/955717e8-{digest}.th": CONTENT[::-1]}
    with pytest.raises(ModelError, match=f"not {digest}"):
        fetch(plan_of(place, tmp_path, model))
    assert [one.name for one in tmp_path.iterdir()] == [".fetch.lock"]


def test_every_member_and_torchaudios_bundles_are_fetched(place: Place, tmp_path: Path) -> None:
    place.files = {
        f"/hub/HTDemucs-ft/resolve/main/{member.signature}.safetensors": CONTENT[: 1000 + number]
        for number, member in enumerate(FINE_TUNED.members)
    }
    plan = plan_of(place, tmp_path, FINE_TUNED)
    assert plan.size_bytes == 4006
    fetch(plan)
    assert len(found(FINE_TUNED, tmp_path)) == 4
    place.files = {"/torchaudio/hdemucs_high_trained.pt": CONTENT}
    fetch(plan_of(place, tmp_path, BUNDLE))
    assert found(BUNDLE, tmp_path) == ["hdemucs_high_trained.pt"]


def test_the_sha256_that_the_hub_announces_is_checked(place: Place, tmp_path: Path) -> None:
    place.linked_sha256 = hashlib.sha256(CONTENT).hexdigest()
    fetch(plan_of(place, tmp_path / "right"))
    place.linked_sha256 = hashlib.sha256(b"something else").hexdigest()
    with pytest.raises(ModelError, match="has sha256"):
        fetch(plan_of(place, tmp_path / "wrong"))


def break_off(place: Place, into: Path, after: int = 1_000_000) -> None:
    place.breaks_after = after
    with pytest.raises(ModelError, match=f"broke off after {after} of {len(CONTENT)} bytes"):
        fetch(plan_of(place, into))
    assert (into / "955717e8.safetensors.part").stat().st_size == after
    assert not (into / "955717e8.safetensors").exists()
    place.breaks_after = None
    place.asked.clear()


def ranges(place: Place) -> list[str]:
    return [wanted for method, _, wanted in place.asked if method == "GET"]


def test_a_broken_download_goes_on_where_it_stopped(place: Place, tmp_path: Path) -> None:
    break_off(place, tmp_path)
    seen: list[int] = []
    (path,) = fetch(plan_of(place, tmp_path), lambda done, total: seen.append(done))
    assert ranges(place) == ["bytes=1000000-"]
    assert path.read_bytes() == CONTENT
    assert (seen[0], seen[-1]) == (1_000_000, len(CONTENT))


@pytest.mark.parametrize("honours_range", [True, False])
def test_it_starts_again_where_the_file_changed_or_ranges_are_ignored(
    place: Place, tmp_path: Path, honours_range: bool
) -> None:
    break_off(place, tmp_path)
    place.honours_range = honours_range
    if honours_range:
        place.files[HUB_PATH] = CONTENT[::-1]
        place.etag = '"two"'
    (path,) = fetch(plan_of(place, tmp_path))
    assert ranges(place) == ["bytes=1000000-"]
    assert path.read_bytes() == place.files[HUB_PATH]


def test_without_a_validator_a_part_is_not_trusted(place: Place, tmp_path: Path) -> None:
    break_off(place, tmp_path)
    (tmp_path / "955717e8.safetensors.part.validator").unlink()
    fetch(plan_of(place, tmp_path))
    assert ranges(place) == [""]


def test_a_part_that_is_whole_needs_no_request_and_one_too_long_is_thrown_away(
    place: Place, tmp_path: Path
) -> None:
    for extra, asked in ((b"", []), (b"x", [f"bytes={len(CONTENT) + 1}-", ""])):
        (tmp_path / "955717e8.safetensors.part").write_bytes(CONTENT + extra)
        (tmp_path / "955717e8.safetensors.part.validator").write_text(place.etag)
        place.asked.clear()
        (path,) = fetch(plan_of(place, tmp_path))
        assert path.read_bytes() == CONTENT
        assert ranges(place) == asked
        path.unlink()


def test_an_interrupt_leaves_a_part_to_go_on_with(place: Place, tmp_path: Path) -> None:
    def interrupt(done: int, total: int | None) -> None:
        if done > 1_500_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(plan_of(place, tmp_path), interrupt)
    assert not (tmp_path / "955717e8.safetensors").exists()
    place.asked.clear()
    (path,) = fetch(plan_of(place, tmp_path))
    assert ranges(place)[0].startswith("bytes=2")
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("status", "said"),
    [(404, "not there"), (403, "no access"), (401, "no access"), (503, "overloaded"), (418, "418")],
)
def test_a_refusal_is_one_line_with_a_hint(place: Place, tmp_path: Path, status: int, said: str) -> None:
    plan = plan_of(place, tmp_path)
    place.status = status
    for attempt in (lambda: plan_of(place, tmp_path), lambda: fetch(plan)):
        with pytest.raises(ModelError, match=said) as caught:
            attempt()
        assert "\n" not in caught.value.message
        assert caught.value.hint
    assert not list(tmp_path.glob("*.safetensors"))


def test_no_network_and_no_answer_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ModelError, match="no answer in time"):
            plan_fetch(HTDEMUCS, tmp_path, origins=Origins(address, address, address), timeout_s=0.2)
    with pytest.raises(ModelError, match="refused") as caught:
        plan_fetch(HTDEMUCS, tmp_path, origins=Origins(address, address, address), timeout_s=5)
    assert str(tmp_path) in caught.value.hint


def test_a_redirect_to_an_unprotected_place_is_refused() -> None:
    request = urllib.request.Request("https://example.org/a")
    with pytest.raises(urllib.error.URLError, match="unprotected"):
        model_store._Redirects().redirect_request(
            request, None, 302, "", http.client.HTTPMessage(), "http://example.org/b"  # type: ignore[arg-type]
        )  # fmt: skip


def test_too_little_room_is_said_before_anything_is_downloaded(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    plan = plan_of(place, tmp_path)
    with pytest.raises(ModelError, match="needs 3 MB more"):
        fetch(plan)
    assert ranges(place) == []


def test_a_disk_that_fills_up_and_a_folder_that_cannot_be_made(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="cannot make the folder"):
        fetch(replace(plan_of(place, tmp_path), into=tmp_path / "file" / "models"))

    def fill_up(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fill_up)
    with pytest.raises(ModelError, match="No space left") as caught:
        fetch(plan_of(place, tmp_path))
    assert "make room" in caught.value.hint


def test_one_download_into_a_folder_at_a_time(place: Place, tmp_path: Path) -> None:
    plan = plan_of(place, tmp_path)

    def second(done: int, total: int | None) -> None:
        with pytest.raises(ModelError, match="another download into"):
            fetch(plan)

    fetch(plan, second)


def test_the_preview_cannot_be_fetched(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="preview has no files"):
        plan_fetch(find_model("preview"), tmp_path)


Run = Callable[..., Any]


@pytest.fixture
def run(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run ``stembridge models ...`` with one home, and the loopback server as every official place."""
    monkeypatch.setenv("STEMBRIDGE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("TORCH_HOME", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cli_models, "plan_fetch", lambda model, into: plan_of(place, into, model))

    def invoke(*arguments: str, answer: str = "") -> Any:
        return CliRunner().invoke(cli_models.models_group, arguments, input=answer)

    return invoke


def test_list_shows_every_model_and_where_it_is(run: Run, tmp_path: Path) -> None:
    touch(tmp_path / "models", "955717e8.safetensors")
    shown = run("list").output
    assert all(model.name in shown for model in CATALOG)
    assert str(tmp_path / "models") in shown
    assert "about 336 MB" in shown
    assert "preview quality" in shown


def test_fetch_asks_once_and_where_shows_the_sha256(run: Run, tmp_path: Path) -> None:
    refused = run("fetch", "htdemucs", answer="n\n").exception
    assert isinstance(refused, ModelError)
    assert refused.message == "model htdemucs was not fetched"
    assert not (tmp_path / "models").exists()
    done = run("fetch", "htdemucs", answer="y\n")
    assert done.exit_code == 0, done.output
    assert done.output.count("?") == 1
    assert "download 3 MB" in done.output
    assert hashlib.sha256(CONTENT).hexdigest() in run("where", "htdemucs").output
    assert "is here already" in run("fetch", "htdemucs", "--yes").output
    other = run("fetch", "htdemucs", "--yes", "--into", str(tmp_path / "other"))
    assert (tmp_path / "other" / "955717e8.safetensors").read_bytes() == CONTENT, other.output
    assert str(tmp_path / "models") in run("where").output


def test_where_names_the_folders_searched_and_a_wrong_file(run: Run, tmp_path: Path) -> None:
    shown = run("where", "htdemucs").output
    assert "not here" in shown
    assert str(tmp_path / "models") in shown
    touch(tmp_path / "models", "955717e8-8726e21a.th")
    assert "WRONG: its name says 8726e21a" in run("where", "htdemucs").output
    assert "needs no files" in run("where", "preview").output


def test_an_interrupted_fetch_says_how_to_go_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(plan: FetchPlan, report: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_models, "fetch", interrupt)
    done = run("fetch", "htdemucs", "--yes")
    assert done.exit_code == 130
    assert "goes on where it was" in done.output


def test_a_plan_of_unknown_size_is_told_as_such() -> None:
    files = (RemoteFile("a", "http://x/a", 3), RemoteFile("b", "http://x/b", None))
    assert FetchPlan("m", Path(), files).size_bytes is None
    assert FetchPlan("m", Path(), files[:1]).size_bytes == 3
