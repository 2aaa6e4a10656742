"""How a result folder comes to be seen: worked at in hiding, verified, published by one rename."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stembridge import audio_io, disk, manifest, null_test, work_folders
from stembridge.carried import tags_of
from stembridge.errors import ExactnessError, OutputError, SourceError
from stembridge.stages import Stages
from stembridge.stem_file import StemReader, write_mp3
from stembridge.types import Progress

_ELSEWHERE = "move it away or choose another folder with --out"

_log = logging.getLogger(__name__)


@contextmanager
def work_folder(out: Path, job_id: str) -> Iterator[Path]:
    """Make the hidden work folder; on the way out remove it, and the folders above it that were made here.

    What crashes have left in ``out`` is removed too.

    Raises
    ------
    OutputError : another process is at the same job, or nothing can be written there
    """
    work = manifest.work_folder(out, job_id)
    with ExitStack() as stack:
        with disk.writing(out):
            made = [folder for folder in (out, *out.parents) if not folder.exists()]
            stack.callback(_remove_empty, made)
            stack.enter_context(work_folders.hold_folder(work))
            stack.callback(work_folders.remove_both, work)
            work_folders.sweep(out)
            for left in (work, work_folders.early_folder(work)):
                if left.exists():
                    _log.warning("removing what a crash left: %s", left)
                    shutil.rmtree(left)
            work.mkdir()
        yield work


def _remove_empty(folders: Sequence[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            break


def verify_files(work: Path, document: manifest.Manifest) -> Generator[float, None, None]:
    """Read the written files back and hold every claim against them; yield the fraction that is done.

    Raises
    ------
    ExactnessError : a claim does not hold
    """
    # Where the sum is not exact, only the original itself can tell by how much.
    use_original = not document.claims.exact_f64
    report = yield from null_test.check_files(work, document, use_original=use_original)
    if not report.holds:
        raise ExactnessError(
            f"the written files do not hold what would be claimed: {report.failures[0]}", "run it again"
        )


def write_listening_copies(
    work: Path, entries: Sequence[manifest.StemEntry], frames: int, tags: Mapping[str, str]
) -> Generator[float, None, tuple[manifest.ListeningEntry, ...]]:
    """Write an MP3 of each verified file beside it; yield the fraction that is done, return what was written.

    Parameters
    ----------
    tags : texts of the source, by libsndfile's names
    """
    folder = work / manifest.LISTENING_FOLDER
    written: list[manifest.ListeningEntry] = []
    with disk.writing(work.parent):
        folder.mkdir()
        for entry in entries:
            path = folder / f"{Path(entry.file).stem}.mp3"
            texts = tags_of(tags, entry.name)
            with StemReader(work / entry.file) as reader:
                done = 0
                for _ in write_mp3(
                    path, _read_all(reader), reader.channels, reader.sample_rate, frames, texts
                ):
                    done = min(frames, done + audio_io.BLOCK_FRAMES)
                    yield (len(written) + done / frames) / len(entries)
            written.append(manifest.ListeningEntry(entry.name, f"{folder.name}/{path.name}"))
        disk.sync_folder(folder)
    return tuple(written)


def publish(
    work: Path,
    final: Path,
    document: manifest.Manifest,
    stages: Stages,
    before_each: Callable[[str], None] = lambda step: None,
) -> Iterator[Progress]:
    """Write the manifest into a verified work folder and make it the result by one rename.

    Parameters
    ----------
    stages : has 'publish'
    before_each : called with 'manifest' and with 'rename' just before that is done

    Raises
    ------
    OutputError : something of that name is there already, or the disk does not take it
    """
    yield stages.at("publish", 0.0)
    before_each("manifest")
    with disk.writing(final.parent):
        manifest.write_manifest(work, document)
        disk.sync_folder(work)
        before_each("rename")
        # rename would silently replace an empty folder of that name.
        if os.path.lexists(final):
            raise OutputError(f"{str(final)!r} exists", _ELSEWHERE)
        work.rename(final)
        disk.sync_folder(final.parent)


def find_published(final: Path, job_id: str, source: str) -> manifest.Manifest | None:
    """Return the manifest of what this very job has published already; None where nothing is there.

    What a crash just behind that left of the job in hiding is removed.

    Parameters
    ----------
    source : path of the original, as a manifest has it

    Raises
    ------
    OutputError : what is there is not this job's, or is not any more what was written
    """
    if not os.path.lexists(final):
        return None
    try:
        document = manifest.read_manifest(final)
    except SourceError as error:
        raise OutputError(f"{str(final)!r} exists and is no result of this job", _ELSEWHERE) from error
    if document.job != job_id or document.source.path != source:
        raise OutputError(f"{str(final)!r} exists and is the result of another job", _ELSEWHERE)
    report = null_test.check_result(final)
    if not report.holds:
        raise OutputError(f"{str(final)!r} exists and was changed: {report.failures[0]}", _ELSEWHERE)
    work_folders.remove_folder(manifest.work_folder(final.parent, job_id))
    return document


def _read_all(reader: StemReader) -> Iterator[NDArray[np.float64]]:
    while (block := reader.read(audio_io.BLOCK_FRAMES)).shape[1]:
        yield block.astype(np.float64)
