"""`stembridge.split` and `stembridge.remix` for scripts and notebooks: paths in, arrays out."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stembridge.audio_io import MAX_RATE_HZ, MIN_RATE_HZ
from stembridge.client import Client, new_job_id, raise_if_not_done
from stembridge.delivery import check_file_names, check_sessions, find_policy
from stembridge.errors import ExactnessError, PresetError, SourceError
from stembridge.local_job import run_here
from stembridge.manifest import Manifest, read_manifest
from stembridge.mixdown.batch import Output, Variant, list_stems, locate_preset, make_request
from stembridge.mixdown.finding import Samples, find_set
from stembridge.null_test import NullReport, check_result
from stembridge.presets import Preset, find_preset, read_preset
from stembridge.progress import Listening, is_watched, progress_shown
from stembridge.quality import find_precision
from stembridge.settings import Settings, load_settings
from stembridge.source_file import check_source_file
from stembridge.stem_file import listening_copy, read_stem
from stembridge.toml_text import shorten_text
from stembridge.types import AUTO_FORMAT, Early, Job, JobState, Region, ResidualPolicy, SplitRequest
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
            raise AttributeError(self._tell_lacking(name))
        return self[name]

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        """Return one stem, (channels, frames) in float64, exactly as its file holds it."""
        if name not in self.names:
            raise KeyError(self._tell_lacking(name))
        return self._read({stem.name: stem.file for stem in self.manifest.stems}[name])

    def _tell_lacking(self, name: str) -> str:
        return f"no stem {name!r} in this set; it has {', '.join(self.names)}"

    def _read(self, file: str) -> NDArray[np.float64]:
        if file not in self._arrays:
            self._arrays[file], _ = read_stem(self.folder / file)
        return self._arrays[file]

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


class Remix(Stems):
    """A rendered remix: ``remix.mix`` is an array (channels, frames), ``remix.null`` the verdict.

    Where stems were asked for they are there like those of a set, ``remix.drums`` among them, and sum to
    ``remix.mix``.

    Attributes
    ----------
    names : names of the stems beside the remix; none where none were asked for
    """

    @property
    def names(self) -> tuple[str, ...]:
        return () if self.manifest.mixture is None else super().names

    @property
    def mix(self) -> NDArray[np.float64]:
        """The remix, (channels, frames) in float64, exactly as its file holds it."""
        return self._read((self.manifest.mixture or self.manifest.stems[0]).file)

    def _tell_lacking(self, name: str) -> str:
        if not self.names:
            return f"no stem {name!r} beside this remix: remix(..., stems_out=True) gives its stems too"
        return f"no stem {name!r} beside this remix; there are {', '.join(self.names)}"

    def __repr__(self) -> str:
        assert self.manifest.remix is not None
        return f"Remix({self.manifest.remix.preset}; {', '.join(self.names) or 'no stems'}; {self.folder})"

    def _repr_html_(self) -> str:
        from stembridge.notebook import render_remix

        arrays = {"remix": self.mix, **{name: self[name] for name in self.names}}
        players = {name: listening_copy(array, self.sample_rate) for name, array in arrays.items()}
        return render_remix(self, arrays, players)


class _Scratch:
    """A temporary folder: gone at the end of its ``with``, or with the last copy of the set that keeps it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="stembridge-"))
        self._is_kept = False
        weakref.finalize(self, shutil.rmtree, self.folder, True)

    def keep_for(self, stems: Stems) -> None:
        """Let the folder live as long as ``stems``, or a copy of it."""
        stems._scratch = self
        self._is_kept = True

    def __enter__(self) -> _Scratch:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._is_kept:
            shutil.rmtree(self.folder, ignore_errors=True)

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
    file_names: str | None = None,
    sessions: Sequence[str] = (),
    precision: str | None = None,
    listen_from: int | None = None,
    on_early: Callable[[Early], object] | None = None,
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
    stems, two_stems, overlap, shifts, seed, model_dir, format, exact_float, residual, mono, mp3, sessions :
        as in `stembridge.types.SplitRequest`
    file_names, precision : as there; None means the settings' own
    listen_from : as there; None begins at the first frame, and nothing can be heard before the end
    on_early : called, in this thread, as soon as there is something to hear; its files are gone with the end
    progress : show progress on a terminal or in a notebook; elsewhere a script stays silent

    Raises
    ------
    StembridgeError
        Of the kind that says what is wrong; see `stembridge.errors`.
    """
    settings = settings or load_settings()
    with _Scratch() as scratch:
        request = SplitRequest(
            source=str(_as_file(source, sample_rate, scratch.folder)),
            out=str(Path(out).absolute() if out is not None else scratch.folder),
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
            file_names=settings.file_names if file_names is None else file_names,
            sessions=tuple(sessions),
            precision=settings.precision if precision is None else find_precision(precision),
            listen_from=listen_from,
        )
        job = _run(request, settings, progress=progress, on_early=on_early)
        assert job.result is not None
        found = Stems(Path(job.result.folder))
        # Checked while the array's file is still there to be compared with, sample for sample.
        if not found.null.holds:
            raise ExactnessError(f"{found.folder}: {found.null.failures[0]}")
        if out is None:
            scratch.keep_for(found)
    return found


def remix(
    source: str | Path | Stems,
    *,
    preset: str | Path,
    changes: Mapping[str, object] | None = None,
    out: str | Path | None = None,
    stems_out: bool = False,
    format: str = AUTO_FORMAT,
    match: str | None = None,
    ceiling_dbtp: float | None = None,
    tail: str | None = None,
    mp3: bool = False,
    report: bool = False,
    speed: float = 1.0,
    pitch: float = 0.0,
    file_names: str | None = None,
    sessions: Sequence[str] = (),
    model: str | None = None,
    overlap: float = 0.25,
    shifts: int = 0,
    seed: int = 0,
    model_dir: str | Path | None = None,
    precision: str | None = None,
    progress: bool = True,
    settings: Settings | None = None,
) -> Remix:
    """Render a remix in this process; what the preset does not touch stays as it is, bit for bit.

    Parameters
    ----------
    source : a set, as `split` returns it or as its folder; or an audio file, which is split first, through
        the daemon, unless ``out`` holds its stems already
    preset : name of a preset, or path of its file
    changes : values in place of the preset's own: ``{"vocals.gain_db": -3}``
    out : folder for the result folder; None keeps the files only as long as the returned object lives
    stems_out, format, mp3, report, speed, pitch, sessions : as in `stembridge.types.RemixRequest`
    file_names : as there, of a file that is split too; None means the settings' own
    match, ceiling_dbtp, tail : as in `stembridge.mixdown.batch.Output`
    model, overlap, shifts, seed, model_dir, precision : of a file that is split, as in `split`
    progress : show progress on a terminal or in a notebook; elsewhere a script stays silent

    Raises
    ------
    StembridgeError
        Of the kind that says what is wrong; see `stembridge.errors`.
    """
    from stembridge.mixdown.render import render_remix

    settings = settings or load_settings()
    with _Scratch() as scratch:
        output = Output(
            folder=Path(out).absolute() if out is not None else scratch.folder,
            stems_out=stems_out,
            format=format,
            mp3=mp3,
            report=report,
            speed=speed,
            pitch=pitch,
            match=match,
            ceiling_dbtp=ceiling_dbtp,
            tail=tail,
            file_names=settings.file_names if file_names is None else file_names,
            sessions=tuple(sessions),
        )
        check_file_names(output.file_names)
        check_sessions(output.sessions)
        told = {f"{key}={_as_toml(value)}": f"changes[{key!r}]" for key, value in (changes or {}).items()}
        variant = Variant(locate_preset(str(preset), Path.cwd()), tuple(told))
        told |= {text: text.partition("=")[0].removeprefix("master.") for text in output.changes}
        request = SplitRequest(
            source="",
            out=str(output.folder),
            model=model or settings.model,
            overlap=overlap,
            shifts=shifts,
            seed=seed,
            model_dir=str(Path(model_dir).absolute()) if model_dir is not None else None,
            file_names=output.file_names,
            precision=settings.precision if precision is None else find_precision(precision),
        )
        try:
            wanted = read_preset(find_preset(variant.preset, settings), (*variant.changes, *output.changes))
        except PresetError as error:
            raise _name_change(error, told) from None
        folder = _find_or_split(source, request, wanted, output.folder, settings, progress=progress)
        asked = make_request(folder, variant, output)
        job = Job(new_job_id(), None, JobState.QUEUED, created=0.0, remix=asked)
        with progress_shown(is_on=progress and is_watched()) as show:
            job = run_here(render_remix(asked, job.id, settings), job, show)
        assert job.result is not None
        found = Remix(Path(job.result.folder))
        if out is None:
            scratch.keep_for(found)
    return found


def _find_or_split(
    source: str | Path | Stems,
    request: SplitRequest,
    wanted: Preset,
    out: Path,
    settings: Settings,
    *,
    progress: bool,
) -> Path:
    """Return the folder of the set that is to be remixed."""
    if isinstance(source, Stems):
        return source.folder
    path = Path(source).absolute()
    if path.is_dir():
        return path
    check_source_file(str(path))
    request = replace(request, source=str(path))
    stems = list_stems(request)
    wanted.check_stems(stems)
    found = find_set([out], request, Samples(path), lambda names: set(names) == set(stems))
    if found is not None:
        return found
    job = _run(request, settings, progress=progress)
    assert job.result is not None
    return Path(job.result.folder)


def _name_change(error: PresetError, told: Mapping[str, str]) -> PresetError:
    """Return an error of a change with its name in Python in place of the command line's.

    Parameters
    ----------
    told : names in Python by the changes as the command line writes them
    """
    for text, name in told.items():
        for written in (shorten_text(text), shorten_text(repr(text))):
            mark = f"--set {written}"
            if error.message.startswith((f"{mark}:", f"{mark} ")):
                return PresetError(f"{name}{error.message.removeprefix(mark)}", error.hint)
    return error


def _as_toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _run(
    request: SplitRequest,
    settings: Settings,
    *,
    progress: bool,
    on_early: Callable[[Early], object] | None = None,
) -> Job:
    listening = Listening()
    with Client(settings) as client, progress_shown(is_on=progress and is_watched()) as show:
        job = client.submit(request, new_job_id(), watch=True)
        try:
            for seen in client.events(job.id):
                show(seen)
                early = listening.find_news(seen)
                if early is not None and on_early is not None:
                    on_early(early)
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
