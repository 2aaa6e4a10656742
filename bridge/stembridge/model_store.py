"""Where model files lie and how they get there. Nothing here opens what is inside them.

A model's files lie together in one folder, in one of the layouts that demucs and torchaudio write:
``<signature>.safetensors``, ``<signature>-<checksum>.th``, ``<signature>.th``, or ``<name>.pt`` for
torchaudio; a ``<model>.yaml`` beside them replaces the catalog's members, weights and segment. Downloads go
to ``<file>.part``, are continued there after a break, and get their name only when whole and checked.
Standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import os
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Protocol
from urllib.parse import urlsplit

from stembridge.catalog import CatalogModel, Member, ModelKind
from stembridge.disk import sync_folder
from stembridge.errors import ModelError
from stembridge.file_lock import FileLock

CHUNK_BYTES = 1 << 20
LONGEST_BAG_BYTES = 1 << 16
_SIGNATURE = re.compile(r"[A-Za-z0-9_]{1,64}")
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
_SHA256 = re.compile(r"[0-9a-f]{64}")

ReportProgress = Callable[[int, int | None], None]
"""Called with bytes done and bytes in all (None while unknown), both over the whole download."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files of one model.

    Parameters
    ----------
    name : the model's official name
    folder : where they lie; None for the preview, which has none
    members : one file per member, in the order of the bag
    bag : the bag's yaml, where the folder has one
    """

    name: str
    folder: Path | None
    members: tuple[Path, ...]
    bag: Path | None = None


@dataclass(frozen=True, slots=True)
class Origins:
    """The official places, without a slash at the end.

    ``hub`` and ``legacy`` are those of ``demucs/hf.py`` and ``demucs/pretrained.py`` in demucs 4.1.0 (the
    second is tried where the first has no answer); ``torchaudio`` is the asset place of torchaudio 2.11.
    """

    hub: str = "https://huggingface.co/adefossez"
    legacy: str = "https://dl.fbaipublicfiles.com/demucs"
    torchaudio: str = "https://download.pytorch.org/torchaudio/models"


OFFICIAL = Origins()


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file to be downloaded.

    ``sha256_start`` holds as many hex digits as the place promises, from none to all 64; ``validator`` is the
    strong ETag, else the date, that says whether a part belongs to the same file.
    """

    name: str
    url: str
    size: int | None
    sha256_start: str = ""
    validator: str = ""


@dataclass(frozen=True, slots=True)
class FetchPlan:
    """What a download will bring: only files that are not yet in ``into``."""

    model: str
    into: Path
    files: tuple[RemoteFile, ...]

    @property
    def size_bytes(self) -> int | None:
        """Bytes of all files together, or None where a server does not say."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)


def locate(model: CatalogModel, folders: Sequence[Path]) -> ModelFiles | None:
    """Return the model's files from the first folder that holds all of them, or None.

    Raises
    ------
    ModelError
        A folder holds several files for one signature, none of them the official one.
    """
    if model.kind is ModelKind.PREVIEW:
        return ModelFiles(model.name, None, ())
    for folder in folders:
        found = _locate_in(model, folder)
        if found is not None:
            return found
    return None


def _locate_in(model: CatalogModel, folder: Path) -> ModelFiles | None:
    try:
        names = _names_in(folder)
    except OSError:
        return None
    bag = folder / f"{model.name}.yaml"
    has_bag = bag.name in names
    members = _members_of_bag(bag) if has_bag else model.members
    files = [_pick_file(model, member, names, folder) for member in members]
    if not files or None in files:
        return None
    found = tuple(folder / name for name in files if name)
    return ModelFiles(model.name, folder, found, bag if has_bag else None)


def _names_in(folder: Path) -> frozenset[str]:
    return frozenset(path.name for path in folder.iterdir())


def _members_of_bag(bag: Path) -> tuple[Member, ...]:
    """Return the members that a bag's yaml lists; the worker reads the file properly before it loads them."""
    try:
        with bag.open(encoding="utf-8") as file:
            text = file.read(LONGEST_BAG_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"bag {bag} cannot be read: {error}") from None
    listed = re.search(r"^models\s*:\s*(\[[^\]]*\]|(?:\s*-[^\n]*)+)", text, re.MULTILINE)
    return tuple(Member(signature) for signature in _SIGNATURE.findall(listed.group(1) if listed else ""))


def _pick_file(model: CatalogModel, member: Member, names: frozenset[str], folder: Path) -> str | None:
    if model.kind is ModelKind.TORCHAUDIO:
        return f"{member.signature}.pt" if f"{member.signature}.pt" in names else None
    official = next((one.checksum for one in model.members if one.signature == member.signature), "")
    for name in (
        f"{member.signature}.safetensors",
        f"{member.signature}-{official}.th",
        f"{member.signature}.th",
    ):
        if name in names:
            return name
    others = sorted(name for name in names if re.fullmatch(rf"{member.signature}-[0-9a-f]{{8,64}}\.th", name))
    if len(others) > 1:
        raise ModelError(f"{folder} holds {' and '.join(others)} for one model", "remove all but one of them")
    return others[0] if others else None


def search_folders(
    model: CatalogModel, model_dirs: Sequence[Path], model_dir: str | Path | None = None
) -> tuple[Path, ...]:
    """Return where a model is looked for, in order: ``model_dir``, the settings' folders, and those into
    which demucs and torchaudio themselves download on this machine."""
    first = () if model_dir is None else (Path(model_dir),)
    return (*first, *model_dirs, *foreign_folders(model, os.environ, Path.home()))


def foreign_folders(model: CatalogModel, environ: Mapping[str, str], home: Path) -> tuple[Path, ...]:
    """Return the folders into which demucs and torchaudio themselves download; we only read them.

    The layouts are those of ``torch.hub`` (torch 2.11) and of the Hugging Face hub's cache.
    """
    cache = Path(environ.get("XDG_CACHE_HOME") or home / ".cache")
    torch_hub = Path(environ.get("TORCH_HOME") or cache / "torch") / "hub"
    if model.kind is ModelKind.TORCHAUDIO:
        return (torch_hub / "torchaudio" / "models",)
    hub = environ.get("HF_HUB_CACHE") or Path(environ.get("HF_HOME") or cache / "huggingface") / "hub"
    snapshots = Path(hub) / f"models--adefossez--{_hub_repository(model.name)}" / "snapshots"
    try:
        kept = sorted(snapshots.iterdir())
    except OSError:
        kept = []
    return (*kept, torch_hub / "checkpoints")


def _hub_repository(name: str) -> str:
    """Return the model's repository on the hub, as ``demucs/hf.py`` (4.1.0) names it."""
    family, _, rest = name.partition("_")
    if family == "htdemucs":
        return f"HTDemucs-{rest}" if rest else "HTDemucs"
    return f"Demucs-{name}"


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file as 64 hex digits.

    Raises
    ------
    ModelError
        The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"model file {path} cannot be read: {error.strerror}") from None


def checksum_in_name(path: Path) -> str:
    """Return the start of the sha256 that a ``<signature>-<checksum>.th`` name promises, or ''."""
    promised = re.fullmatch(r"[^-]+-([0-9a-f]{8,64})", path.stem) if path.suffix == ".th" else None
    return promised.group(1) if promised else ""


def plan_fetch(
    model: CatalogModel, into: Path, *, origins: Origins = OFFICIAL, timeout_s: float = 30.0
) -> FetchPlan:
    """Ask the official places what is to be downloaded into ``into``, and how large it is.

    Raises
    ------
    ModelError
        The model has no files, or no place has one of them; the message says what each place answered.
    """
    if not model.members:
        raise ModelError(f"{model.name} has no files to fetch", "it works as it is")
    files = []
    failed: dict[str, str] = {}
    for member in model.members:
        if _is_here(model, member, into):
            continue
        remote = _ask_places(model, member, origins, timeout_s, failed)
        if remote is None:
            answers = "; ".join(f"{urlsplit(place).netloc}: {answer}" for place, answer in failed.items())
            raise ModelError(
                f"cannot download {model.name}: {answers}",
                f"check the network, or put the files that `stembridge models where {model.name}` names "
                f"into {into}",
            )
        files.append(remote)
    return FetchPlan(model.name, into, tuple(files))


def _is_here(model: CatalogModel, member: Member, into: Path) -> bool:
    try:
        return _pick_file(model, member, _names_in(into), into) is not None
    except OSError:
        return False


def _ask_places(
    model: CatalogModel, member: Member, origins: Origins, timeout_s: float, failed: dict[str, str]
) -> RemoteFile | None:
    for place, path in _places(model, member, origins):
        if place in failed:
            continue
        try:
            return _ask_size(f"{place}/{path}", member, timeout_s)
        except ModelError as error:
            failed[place] = error.message
    return None


def _places(model: CatalogModel, member: Member, origins: Origins) -> tuple[tuple[str, str], ...]:
    """Return the places that have the member, best first, each with the file's path there."""
    if model.kind is ModelKind.TORCHAUDIO:
        return ((origins.torchaudio, f"{member.signature}.pt"),)
    return (
        (origins.hub, f"{_hub_repository(model.name)}/resolve/main/{member.signature}.safetensors"),
        (origins.legacy, f"{member.folder}/{member.signature}-{member.checksum}.th"),
    )


def _ask_size(url: str, member: Member, timeout_s: float) -> RemoteFile:
    with _open(urllib.request.Request(url, method="HEAD"), timeout_s) as (answer, linked_sha256):
        length = answer.headers.get("Content-Length", "")
        name = url.rpartition("/")[2]
        promised = member.checksum if name.endswith(".th") else linked_sha256
        return RemoteFile(
            name, url, int(length) if length.isdigit() else None, promised, _validator(answer.headers)
        )


class _Answer(Protocol):
    """What is used of an `http.client.HTTPResponse`."""

    status: int
    headers: Message

    def read(self, amount: int) -> bytes: ...


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, never from https to plain http, and keeps the sha256 that the hub announces."""

    def __init__(self) -> None:
        self.linked_sha256 = ""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if req.type == "https" and urlsplit(newurl).scheme != "https":
            raise urllib.error.URLError("redirect to an unprotected place")
        announced = headers.get("X-Linked-ETag", "").strip('"')
        if _SHA256.fullmatch(announced):
            self.linked_sha256 = announced
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None:
            following.method = req.get_method()
        return following


@contextlib.contextmanager
def _open(request: urllib.request.Request, timeout_s: float) -> Iterator[tuple[_Answer, str]]:
    """Yield the answer and the sha256 that a redirect announced; what goes wrong becomes a `ModelError`."""
    request.add_header("User-Agent", "stembridge")
    request.add_header("Accept-Encoding", "identity")
    redirects = _Redirects()
    try:
        answer = urllib.request.build_opener(redirects).open(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        raise _refusal(error.code) from None
    except urllib.error.URLError as error:
        raise ModelError(_reason(error.reason), _RESUME_HINT) from None
    except (OSError, http.client.HTTPException) as error:
        raise ModelError(_reason(error), _RESUME_HINT) from None
    with answer:
        yield answer, redirects.linked_sha256


_RESUME_HINT = "check the network and run the same command again: it goes on where it stopped"


class _RangeRefused(ModelError):
    """The server has nothing behind the bytes that are here already."""


def _refusal(status: int) -> ModelError:
    if status == 416:
        return _RangeRefused("no such range")
    if status in (401, 403, 404, 410):
        said = {401: "no access", 403: "no access", 404: "not there", 410: "gone"}[status]
        return ModelError(
            f"{said} (HTTP {status})", "the official place may have moved: take the files from a folder"
        )
    if status == 429 or status >= 500:
        return ModelError(f"the server is overloaded or broken (HTTP {status})", "try again later")
    return ModelError(f"HTTP {status}", _RESUME_HINT)


def _reason(error: object) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _validator(headers: Message) -> str:
    etag = str(headers.get("ETag", ""))
    return etag if etag.startswith('"') else str(headers.get("Last-Modified", ""))


def fetch(
    plan: FetchPlan, on_progress: ReportProgress | None = None, *, timeout_s: float = 30.0
) -> tuple[Path, ...]:
    """Download what the plan lists and return the paths, each whole, checked and on the disk.

    A break (KeyboardInterrupt included) leaves a ``.part`` file that the next call goes on with.

    Raises
    ------
    ModelError
        No room, no network, a refusal, a wrong checksum, another download into the same folder.
    """
    _make_folder(plan.into)
    lock = FileLock(plan.into / ".fetch.lock")
    if not lock.acquire():
        raise ModelError(f"another download into {plan.into} is running", "wait until it has finished")
    try:
        _check_room(plan)
        report = _Report(on_progress, plan.size_bytes)
        return tuple(_download(file, plan.into, report, timeout_s) for file in plan.files)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise ModelError(
            f"{plan.model} cannot be written to {plan.into}: {error.strerror or error}",
            "make room and run the same command again: it goes on where it stopped" if full else "",
        ) from None
    finally:
        lock.release()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"cannot make the folder {folder}: {error.strerror}") from None


def _check_room(plan: FetchPlan) -> None:
    here = sum(_size(_part(plan.into, file)) for file in plan.files)
    needed = sum(file.size or 0 for file in plan.files) - here
    free = shutil.disk_usage(plan.into).free
    if needed > free:
        raise ModelError(
            f"{plan.model} needs {needed / 1e6:.0f} MB more, {plan.into} has {free / 1e6:.0f} MB free",
            "make room, or name another folder",
        )


class _Report:
    """Adds up the bytes of all files for the caller's progress."""

    def __init__(self, on_progress: ReportProgress | None, total: int | None) -> None:
        self._on_progress = on_progress
        self._total = total
        self._done = 0

    def add(self, count: int) -> None:
        self._done += count
        if self._on_progress is not None:
            self._on_progress(self._done, self._total)


def _part(into: Path, file: RemoteFile) -> Path:
    return into / f"{file.name}.part"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _download(file: RemoteFile, into: Path, report: _Report, timeout_s: float) -> Path:
    part = _part(into, file)
    note = part.with_name(f"{part.name}.validator")
    place = urlsplit(file.url).netloc
    try:
        try:
            digest = _fill_part(file, part, note, report, timeout_s)
        except _RangeRefused:
            part.unlink(missing_ok=True)
            digest = _fill_part(file, part, note, report, timeout_s)
    except ModelError as error:
        raise ModelError(
            f"download of {file.name} from {place} failed: {error.message}", error.hint
        ) from None
    if not digest.startswith(file.sha256_start):
        part.unlink()
        note.unlink(missing_ok=True)
        raise ModelError(
            f"{file.name} from {place} has sha256 {digest[:8]}..., not {file.sha256_start[:8]}...",
            "it was thrown away; run the same command again",
        )
    final = into / file.name
    part.replace(final)
    note.unlink(missing_ok=True)
    sync_folder(into)
    return final


def _fill_part(file: RemoteFile, part: Path, note: Path, report: _Report, timeout_s: float) -> str:
    """Bring ``part`` to its full length and return its sha256."""
    validator = note.read_text("utf-8") if note.exists() else ""
    have = _size(part) if validator else 0
    if have and have == file.size and validator == file.validator:
        report.add(have)
        return file_sha256(part)
    request = urllib.request.Request(file.url)
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", validator)
    with _open(request, timeout_s) as (answer, _):
        start, total = _extent(answer)
        if start not in (0, have):
            raise _RangeRefused(f"bytes from {start} on instead of {have}")
        note.write_text(_validator(answer.headers), "utf-8")
        digest = hashlib.sha256()
        with part.open("r+b" if start else "wb") as out:
            while start and (known := out.read(CHUNK_BYTES)):
                digest.update(known)
            report.add(start)
            for chunk in _chunks(answer):
                out.write(chunk)
                digest.update(chunk)
                report.add(len(chunk))
            out.flush()
            os.fsync(out.fileno())
    if total is not None and _size(part) != total:
        raise ModelError(f"it broke off after {_size(part)} of {total} bytes", _RESUME_HINT)
    return digest.hexdigest()


def _extent(answer: _Answer) -> tuple[int, int | None]:
    """Return the first byte that the answer brings and the length of the whole file, if it is told.

    A server that ignores the range, or whose file is another by now, answers 200 with all of it (RFC 9110,
    14.2 and 13.1.5).
    """
    if answer.status == 206:
        told = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if told is None:
            raise _RangeRefused("a partial answer without Content-Range")
        return int(told.group(1)), int(told.group(2))
    length = answer.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _chunks(answer: _Answer) -> Iterator[bytes]:
    while True:
        try:
            chunk = answer.read(CHUNK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise ModelError(_reason(error), _RESUME_HINT) from None
        if not chunk:
            return
        yield chunk
