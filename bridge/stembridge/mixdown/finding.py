"""What is there already: the set of a file that was split before, and a remix that was rendered before."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from stembridge import audio_io, transcode
from stembridge.closing import COMPLEMENT
from stembridge.errors import SourceError
from stembridge.manifest import FILE_NAME, Manifest, StemEntry, is_sealed, job8, read_manifest
from stembridge.stages import run_to_end
from stembridge.stem_file import hash_file
from stembridge.types import Precision, SplitRequest


def hash_samples(path: Path) -> str:
    """Return what `stembridge.manifest.SourceEntry.sha256_pcm` is for a split of the whole of ``path``.

    Raises
    ------
    SourceError : it cannot be read
    """
    samples = audio_io.PcmHash()
    with tempfile.TemporaryDirectory(prefix="stembridge-") as folder:
        info = run_to_end(transcode.open_source(str(path), Path(folder)))
        for block in audio_io.read_blocks(info, audio_io.check_region(info, None)):
            samples.update(block)
    return samples.hexdigest()


class Samples:
    """The samples of a file, hashed when they are first compared, and only then."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sha256 = ""

    @property
    def sha256(self) -> str:
        if not self._sha256:
            self._sha256 = hash_samples(self.path)
        return self._sha256


def find_set(
    folders: Iterable[Path],
    request: SplitRequest,
    samples: Samples,
    serves: Callable[[tuple[str, ...]], bool],
) -> Path | None:
    """Return a finished set that does for a split of ``request``, or None; the newest comes first.

    It is of the same samples, model, overlap, shifts and seed, of no lesser precision, and its files are what
    was written.

    Parameters
    ----------
    folders : where result folders are looked for
    samples : of the file that would be split
    serves : whether a set of stems of these names would do

    Raises
    ------
    SourceError : the file has to be compared and cannot be read
    """
    for folder, manifest in _read_sets(folders):
        names = tuple(stem.name for stem in manifest.stems)
        if not _is_split_of(request, manifest) or not serves(names) or not _is_whole(folder, manifest):
            continue
        if manifest.source.sha256_pcm == samples.sha256 and _is_intact(folder, manifest):
            return folder
    return None


def find_remix(out: Path, job_id: str) -> Path | None:
    """Return the folder in ``out`` that the job of that id has published, as it was written, or None."""
    for path in sorted(out.glob(f"*__{job8(job_id)}/{FILE_NAME}")):
        manifest = _read_quietly(path.parent)
        if manifest and manifest.remix and manifest.job == job_id and _is_intact(path.parent, manifest):
            return path.parent
    return None


def _read_sets(folders: Iterable[Path]) -> Iterator[tuple[Path, Manifest]]:
    """Yield the result folders directly in ``folders`` with their manifests, newest first."""
    found = {path.parent.resolve() for folder in folders for path in folder.glob(f"*/{FILE_NAME}")}
    pairs = ((folder, _read_quietly(folder)) for folder in found)
    sets = [(folder, manifest) for folder, manifest in pairs if manifest is not None]
    yield from sorted(sets, key=lambda pair: (pair[1].created, pair[0].name), reverse=True)


def _read_quietly(folder: Path) -> Manifest | None:
    """Return the manifest of ``folder``, None where it is none of ours: nobody asked for this folder."""
    try:
        return read_manifest(folder)
    except SourceError:
        return None


def _is_split_of(request: SplitRequest, manifest: Manifest) -> bool:
    """Tell whether a set, if it is of the same samples and has the stems, is what ``request`` asks for."""
    source, model = manifest.source, manifest.model
    return (
        manifest.remix is None
        and (model.name, model.overlap, model.shifts) == (request.model, request.overlap, request.shifts)
        and (model.seed == request.seed or not request.shifts)
        and (request.precision is Precision.HALF or model.precision != Precision.HALF)
        and (source.region.start, source.region.frames) == (0, source.frames)
        and manifest.residual.policy in (request.residual.value, COMPLEMENT)
        and not manifest.mono
    )


def _is_intact(folder: Path, manifest: Manifest) -> bool:
    """Tell whether stems.json and every file that sums are, byte for byte, what was written."""
    if not _is_whole(folder, manifest):
        return False
    try:
        for entry in _list_files(manifest):
            with (folder / entry.file).open("rb") as file:
                if hash_file(file) != entry.sha256_file:
                    return False
    except OSError:
        return False
    return True


def _is_whole(folder: Path, manifest: Manifest) -> bool:
    """Tell whether stems.json is as it was written and every file is there, without reading them."""
    try:
        return is_sealed(folder) and all((folder / entry.file).is_file() for entry in _list_files(manifest))
    except OSError:
        return False


def _list_files(manifest: Manifest) -> tuple[StemEntry, ...]:
    return (*manifest.stems, *((manifest.mixture,) if manifest.mixture else ()))
