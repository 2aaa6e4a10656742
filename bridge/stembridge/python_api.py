"""`stembridge.split` for scripts and notebooks: a path or an array in, stems as arrays out."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stembridge.audio_io import MAX_RATE_HZ, MIN_RATE_HZ
from stembridge.client import Client, new_job_id, raise_if_not_done
from stembridge.delivery import find_policy
from stembridge.errors import ExactnessError, SourceError
from stembridge.manifest import Manifest, read_manifest
from stembridge.null_test import NullReport, check_result
from stembridge.progress import is_watched, progress_shown
from stembridge.settings import Settings, load_settings
from stembridge.stem_file import listening_copy, read_stem
from stembridge.types import AUTO_FORMAT, Job, Region, ResidualPolicy, SplitRequest
from stembridge.wavfile import write_wav


class Stems:
    """A finished set: ``stems.vocals`` is an array (channels, frames), ``stems.null`` the verdict.

    Stems are read from the files when they are first asked for. In a notebook a set shows a player and a
    waveform per stem.

    Attributes
    ----------
    folder : where the files and stems.json lie
    manifest : what stems.json says
    names : names of the stems, in order
    sample_rate : frames per second, the original's own
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest: Manifest = read_manifest(folder)
        self.sample_rate = self.manifest.source.sample_rate
        self._arrays: dict[str, NDArray[np.float64]] = {}
        self._null: NullReport | None = None
        self._scratch: _Scratch | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(stem.name for stem in self.manifest.stems)

    @property
    def null(self) -> NullReport:
        """What re-reading every file says about the sum; see `stembridge.null_test.check_result`."""
        if self._null is None:
            self._null = check_result(self.folder)
        return self._null

    def __getattr__(self, name: str) -> NDArray[np.float64]:
        # A set that is being copied or unpickled is asked for its methods before it has a manifest.
        if name.startswith("_") or "manifest" not in self.__dict__:
            raise AttributeError(f"no attribute {name!r}")
        if name not in self.names:
            raise AttributeError(f"no stem {name!r} in this set; it has {', '.join(self.names)}")
        return self[name]

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        """Return one stem, (channels, frames) in float64, exactly as its file holds it."""
        if name not in self._arrays:
            files = {stem.name: stem.file for stem in self.manifest.stems}
            if name not in files:
                raise KeyError(f"no stem {name!r} in this set; it has {', '.join(self.names)}")
            self._arrays[name], _ = read_stem(self.folder / files[name])
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"Stems({', '.join(self.names)}; {self.manifest.model.name}; {self.folder})"

    def _repr_html_(self) -> str:
        from stembridge.notebook import render_stems

        players = {name: listening_copy(self[name], self.sample_rate) for name in self.names}
        return render_stems(self, players)


class _Scratch:
    """Removes a folder once nothing holds this object any more: a set, or a copy of it."""

    def __init__(self, folder: Path) -> None:
        weakref.finalize(self, shutil.rmtree, folder, True)

    def __deepcopy__(self, memo: object) -> _Scratch:
        return self


def split(
    source: str | Path | ArrayLike,
    sample_rate: int | np.integer[Any] | None = None,
    *,
    out: str | Path | None = None,
    model: str | None = None,
    stems: Sequence[str] = (),
    two_stems: str | None = None,
    overlap: float = 0.25,
    shifts: int = 0,
    seed: int = 0,
    model_dir: str | Path | None = None,
    region: tuple[int, int] | None = None,
    format: str = AUTO_FORMAT,
    exact_float: bool = False,
    residual: str = ResidualPolicy.OWN,
    mono: Sequence[str] = (),
    mp3: bool = False,
    progress: bool = True,
    settings: Settings | None = None,
) -> Stems:
    """Split a file or an array through the resident daemon and return its stems.

    Parameters
    ----------
    source : path of an audio file, or samples (channels, frames) or (frames,): floats of full scale 1.0, or
        integers of 16 or 32 bits
    sample_rate : frames per second of an array, an int; must be left out for a path
    out : folder for the result folder; None keeps the files only as long as the returned object lives
    model : official name; None means the settings' model
    region : first frame and number of frames to split; None means all
    stems, two_stems, overlap, shifts, seed, model_dir, format, exact_float, residual, mono, mp3 :
        as in `stembridge.types.SplitRequest`
    progress : show progress on a terminal or in a notebook; elsewhere a script stays silent

    Raises
    ------
    StembridgeError
        Of the kind that says what is wrong; see `stembridge.errors`.
    """
    settings = settings or load_settings()
    scratch = Path(tempfile.mkdtemp(prefix="stembridge-"))
    try:
        request = SplitRequest(
            source=str(_as_file(source, sample_rate, scratch)),
            out=str(Path(out).absolute() if out is not None else scratch),
            model=model or settings.model,
            stems=tuple(stems),
            two_stems=two_stems,
            overlap=overlap,
            shifts=shifts,
            seed=seed,
            model_dir=str(Path(model_dir).absolute()) if model_dir is not None else None,
            region=None if region is None else Region(*region),
            format=format,
            exact_float=exact_float,
            residual=find_policy(residual),
            mono=tuple(mono),
            mp3=mp3,
        )
        job = _run(request, settings, progress=progress)
        assert job.result is not None
        found = Stems(Path(job.result.folder))
        # Checked while the array's file is still there to be compared with, sample for sample.
        if not found.null.holds:
            raise ExactnessError(f"{found.folder}: {found.null.failures[0]}")
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    if out is None:
        found._scratch = _Scratch(scratch)
    else:
        shutil.rmtree(scratch, ignore_errors=True)
    return found


def _run(request: SplitRequest, settings: Settings, *, progress: bool) -> Job:
    with Client(settings) as client, progress_shown(is_on=progress and is_watched()) as show:
        job = client.submit(request, new_job_id(), watch=True)
        try:
            for seen in client.events(job.id):
                show(seen)
        except KeyboardInterrupt:
            client.cancel(job.id)
            for _ in client.events(job.id):
                pass
            raise
        return raise_if_not_done(client.get(job.id))


def _as_file(
    source: str | Path | ArrayLike, sample_rate: int | np.integer[Any] | None, scratch: Path
) -> Path:
    if isinstance(source, str | Path):
        if sample_rate is not None:
            raise SourceError(
                f"sample_rate {sample_rate} beside a path", "leave it out: the file has its own"
            )
        return Path(source).absolute()
    if sample_rate is None:
        raise SourceError("an array without its sample_rate", "split(array, 44100)")
    is_whole = isinstance(sample_rate, int | np.integer) and not isinstance(sample_rate, bool)
    if not is_whole or not MIN_RATE_HZ <= sample_rate <= MAX_RATE_HZ:
        raise SourceError(
            f"sample_rate {sample_rate!r} of an array",
            f"give it as an int, in Hz: {MIN_RATE_HZ} to {MAX_RATE_HZ} are possible",
        )
    samples = _as_floats(np.asarray(source))
    path = scratch / "array.wav"
    subtype = "FLOAT" if samples.dtype == np.float32 else "DOUBLE"
    write_wav(path, samples, int(sample_rate), subtype)
    return path


def _as_floats(samples: NDArray[Any]) -> NDArray[Any]:
    """Return (channels, frames) floats of the same values; every 16-bit and 32-bit integer has one."""
    if samples.ndim == 1:
        samples = samples[np.newaxis]
    if samples.ndim != 2 or samples.shape[1] < samples.shape[0]:
        raise SourceError(f"array of shape {samples.shape}", "give (channels, frames), or (frames,) for mono")
    if samples.dtype == np.int16:
        return (samples / np.float32(2**15)).astype(np.float32)
    if samples.dtype == np.int32:
        return samples / 2.0**31
    if samples.dtype in (np.float32, np.float64):
        return np.ascontiguousarray(samples)
    raise SourceError(f"array of type {samples.dtype}", "float32, float64, int16 or int32")
