"""`stembridge split`: files in, stems that null out."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from stembridge import catalog, model_store
from stembridge.catalog import ModelKind
from stembridge.cli.completion import complete_models, complete_stems
from stembridge.cli.delivery_options import delivery_options, list_names, out_option, precision_option
from stembridge.cli.job_line import job_json
from stembridge.client import Client, new_job_id, raise_if_not_done
from stembridge.delivery import check_file_names, check_sessions
from stembridge.errors import JobCancelled, ModelError, RequestError, SourceError, StembridgeError
from stembridge.quality import QUALITIES
from stembridge.settings import Settings, load_settings
from stembridge.text import clock, one_line
from stembridge.types import AUTO_FORMAT, Precision, Region, ResidualPolicy, SplitRequest

EXIT_PARTLY = 3


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@out_option("Folder that gets one result folder per file.")
@click.option(
    "--model",
    "model_name",
    shell_complete=complete_models,
    help="Official model name; see `stembridge models list`.",
)
@click.option(
    "--quality",
    type=click.Choice(list(QUALITIES)),
    help="Model, overlap and shifts in one word; flags win. Default: good, with the settings' model.",
)
@click.option(
    "--stems", shell_complete=complete_stems, help="Only these, by comma; everything else is in the residual."
)
@click.option(
    "--two-stems",
    metavar="STEM",
    shell_complete=complete_stems,
    help="Exactly two stems: STEM and its complement, the residual included.",
)
@click.option("--overlap", type=float, help="Share of a segment that overlaps the next, 0 to 0.95.")
@click.option("--shifts", type=int, help="Seeded random shifts to average; 0 is fastest.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the shifts.")
@precision_option
@click.option("--model-dir", type=click.Path(path_type=Path), help="Folder with model files, searched first.")
@click.option("--start", metavar="TIME", help="Where to begin: 12.5 (seconds), 1:02.5, or 48000f (frames).")
@click.option("--length", metavar="TIME", help="How much from there; default: to the end.")
@click.option(
    "--listen-from",
    metavar="TIME",
    help="Where you want to hear first: what is there is split first, and its files are named at once.",
)
@delivery_options
@click.option("--yes", is_flag=True, help="Fetch a model that is not here without asking.")
@click.option("--json", "as_json", is_flag=True, help="Events as JSON lines on stdout.")
def split(
    files: tuple[Path, ...],
    out: Path,
    model_name: str | None,
    quality: str | None,
    stems: str | None,
    two_stems: str | None,
    overlap: float | None,
    shifts: int | None,
    seed: int,
    precision: str | None,
    model_dir: Path | None,
    start: str | None,
    length: str | None,
    listen_from: str | None,
    file_format: str,
    exact_float: bool,
    mp3: bool,
    residual: str,
    mono: str | None,
    file_names: str | None,
    sessions: tuple[str, ...],
    yes: bool,
    as_json: bool,
) -> int:
    """Split FILES into stems whose sum is the original, sample for sample.

    Exit codes: 0 done, 1 failed, 2 usage, 3 some files failed, 69 no daemon, 73 cannot write, 75 busy,
    130 cancelled.
    """
    settings = load_settings()
    if stems and two_stems:
        raise click.UsageError("--stems and --two-stems exclude each other")
    chosen = QUALITIES[quality or "good"]
    default_model = chosen.model if quality else settings.model
    request = SplitRequest(
        source="",
        out=str(out.absolute()),
        model=model_name or default_model,
        stems=list_names(stems),
        two_stems=two_stems,
        overlap=chosen.overlap if overlap is None else overlap,
        shifts=chosen.shifts if shifts is None else shifts,
        seed=seed,
        model_dir=str(model_dir.absolute()) if model_dir else None,
        format=file_format,
        exact_float=exact_float,
        residual=ResidualPolicy(residual),
        mono=list_names(mono),
        mp3=mp3,
        file_names=settings.file_names if file_names is None else file_names,
        sessions=tuple(dict.fromkeys(sessions)),
        precision=settings.precision if precision is None else Precision(precision),
    )
    check_file_names(request.file_names)
    check_sessions(request.sessions)
    request = present_model(request, settings, is_named=model_name is not None, yes=yes, quiet=as_json)
    requests = [replace(request, source=str(path.absolute())) for path in files]
    refused: list[SourceError] = []
    if start is not None or length is not None or listen_from is not None:
        requests, refused = _with_places(requests, start, length, listen_from, as_json=as_json)
    if not requests:
        return refused[0].exit_code
    with Client(settings) as client:
        if not as_json:
            announce(requests, client)
        code = run_splits(client, requests, as_json=as_json).exit_code
    return EXIT_PARTLY if refused and not code else code


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of several splits: folders of those that are done, and one exit code for all."""

    folders: tuple[Path, ...]
    exit_code: int


def run_splits(client: Client, requests: Sequence[SplitRequest], *, as_json: bool = False) -> Outcome:
    """Submit all, show progress, print each result as it comes.

    Ctrl-C cancels what was submitted and waits until the daemon has let go of it.
    """
    from stembridge.progress import progress_shown

    failures: list[StembridgeError] = []
    folders: list[Path] = []
    submitted: dict[str, SplitRequest] = {}
    try:
        for request in requests:
            job_id = new_job_id()
            submitted[job_id] = request
            try:
                client.submit(request, job_id, watch=True)
            except StembridgeError as error:
                del submitted[job_id]
                failures.append(error)
                _complain(request, error, as_json=as_json)
        with progress_shown(is_on=not as_json) as show:
            for job in client.events(*submitted):
                if as_json:
                    print(job_json(job), flush=True)
                else:
                    show(job)
                    if job.state.is_final or (job.progress is not None and job.progress.stage == "close"):
                        # scipy is behind it, which takes a second to load. The model is done by now, and what
                        # is left to do needs one core.
                        from stembridge.cli.result_table import print_result
                if not job.state.is_final:
                    continue
                try:
                    result = raise_if_not_done(job).result
                except StembridgeError as error:
                    failures.append(error)
                    _complain(job.split, error, as_json=as_json)
                else:
                    assert result is not None
                    folders.append(Path(result.folder))
                    if not as_json:
                        print("\n" * (len(folders) > 1), end="")
                        print_result(folders[-1], result.warnings)
    except KeyboardInterrupt:
        _cancel_all(client, submitted)
        raise JobCancelled("cancelled; nothing half-written is left") from None
    if folders and failures:
        return Outcome(tuple(folders), EXIT_PARTLY)
    return Outcome(tuple(folders), failures[0].exit_code if failures else 0)


def present_model(
    request: SplitRequest, settings: Settings, *, is_named: bool, yes: bool, quiet: bool = False
) -> SplitRequest:
    """Return ``request`` with a model whose files are here.

    A model that is not here is fetched after one question. Only where none was named, a person is there to
    ask, and nothing can be fetched, `preview` is offered; a script never gets another model than it named.

    Raises
    ------
    ModelError
        The model is not here and was not fetched.
    """
    model = catalog.find_model(request.model)
    folders = model_store.search_folders(model, settings.model_dirs, request.model_dir)
    if model_store.locate(model, folders) is not None:
        return request
    is_interactive = sys.stdin.isatty() and sys.stderr.isatty() and not quiet
    if not yes and not is_interactive:
        raise ModelError(
            f"model {model.name} is not on this machine",
            f"`stembridge models fetch {model.name}`, --yes to fetch it now, or --model preview",
        )
    from stembridge.cli.models import fetch_model

    try:
        fetch_model(model, settings.model_dirs[0], yes=yes)
    except ModelError as error:
        if is_named or not is_interactive or not _offer_preview(error):
            raise
        return replace(request, model="preview", shifts=0)
    return request


def announce(requests: Sequence[SplitRequest], client: Client) -> None:
    """Say on stderr what is about to happen: audio, model, time on this machine, disk."""
    from stembridge.disk import estimate_disk
    from stembridge.estimate import measured_cost, pass_seconds, reckoned_cost
    from stembridge.matrix_speed import measure_gflops

    model = catalog.find_model(requests[0].model)
    catalog.check_stems(model, requests[0].asked)
    if not 0 <= requests[0].overlap < 1:
        raise RequestError(f"overlap {requests[0].overlap:g}", "at least 0 and below 1")
    audio_s = work_s = 0.0
    kept_bytes = peak_bytes = 0
    for request in requests:
        try:
            found = glance(request.source)
        except StembridgeError:
            continue
        frames = request.region.frames if request.region else found.frames
        length = frames / found.sample_rate
        audio_s += length
        work_s += found.groups * pass_seconds(model, request, length)
        need = estimate_disk(
            frames=frames,
            channels=found.channels,
            stems=len(request.asked or model.sources) + found.is_lossy,
            model_frames=int(length * model.sample_rate) + 1,
            double_residual=found.is_full_float and request.exact_float,
            width=4 if found.is_lossy or found.is_full_float or request.format != AUTO_FORMAT else 3,
        )
        peak_bytes = max(peak_bytes, kept_bytes + need.peak_bytes)
        kept_bytes += need.result_bytes
    if not audio_s:
        return
    status = client.status()
    cost = measured_cost(model, requests[0].precision, status.speeds, status.workers[0].device)
    basis = "measured here"
    if cost is None:
        cost, basis = reckoned_cost(model, measure_gflops()), "reckoned; measured from the first split on"
    label = f"{model.name} (preview quality, no model)" if model.kind is ModelKind.PREVIEW else model.name
    print(
        f"{len(requests)} file{'s' * (len(requests) > 1)}, {clock(audio_s)} of audio with {label}: "
        f"about {clock(work_s * cost)} ({basis}), "
        f"{kept_bytes / 1e6:.0f} MB of stems, {peak_bytes / 1e6:.0f} MB while it runs",
        file=sys.stderr,
    )


@dataclass(frozen=True, slots=True)
class Glance:
    """What can be known of a source without decoding it; without ``is_exact`` its length may be a bit off."""

    sample_rate: int
    channels: int
    groups: int
    frames: int
    is_exact: bool
    is_lossy: bool
    is_full_float: bool


def glance(path: str) -> Glance:
    """Return what the file's header says; of one that ffmpeg decodes, what ffprobe makes of it."""
    from stembridge import transcode
    from stembridge.audio_io import probe
    from stembridge.channel_layout import conventional_mask, find_groups

    if transcode.kind_of(path) is None:
        info = probe(path)
        groups, is_float = len(info.groups), info.grid_bits is None
        return Glance(info.sample_rate, info.channels, groups, info.frames, True, info.is_lossy, is_float)
    found = transcode.estimate(path)
    groups = len(find_groups(found.channels, conventional_mask(found.channels)))
    frames = round(found.seconds * found.sample_rate)
    return Glance(found.sample_rate, found.channels, groups, frames, False, True, False)


def _with_places(
    requests: Sequence[SplitRequest],
    start: str | None,
    length: str | None,
    listen_from: str | None,
    *,
    as_json: bool,
) -> tuple[list[SplitRequest], list[SourceError]]:
    """Return the requests with their places in the file, and what was told of the files that lack them."""
    placed, refused = [], []
    for request in requests:
        try:
            placed.append(_with_place(request, start, length, listen_from))
        except SourceError as error:
            refused.append(error)
            _complain(request, error, as_json=as_json)
        except RequestError as error:
            raise click.UsageError(str(error)) from error
    return placed, refused


def _with_place(
    request: SplitRequest, start: str | None, length: str | None, listen_from: str | None
) -> SplitRequest:
    from stembridge.cli.region import parse_place, parse_region

    found = glance(request.source)
    if start is not None and length is None and not found.is_exact:
        raise RequestError(
            f"--start {start} without --length: {request.source!r} has no exact length before it is decoded",
            "give --length too",
        )
    region = parse_region(start, length, sample_rate=found.sample_rate, frames=found.frames)
    if listen_from is None:
        return replace(request, region=region)
    # A length that is not exact is the worker's to compare with.
    split = region or Region(0, found.frames if found.is_exact else sys.maxsize)
    place = parse_place(listen_from, split, sample_rate=found.sample_rate, is_whole=region is None)
    return replace(request, region=region, listen_from=place)


def _complain(request: SplitRequest, error: StembridgeError, *, as_json: bool) -> None:
    if as_json:
        line = {"source": request.source, "error": error.code, "message": error.message, "hint": error.hint}
        print(json.dumps(line), flush=True)
    else:
        print(f"stembridge: {one_line(str(error))}", file=sys.stderr)


def _cancel_all(client: Client, submitted: Iterable[str]) -> None:
    print("\ncancelling ...", file=sys.stderr)
    asked = []
    for job_id in submitted:
        try:
            client.cancel(job_id)
            asked.append(job_id)
        except StembridgeError:
            continue
    for _ in client.events(*asked):
        pass


def _offer_preview(error: ModelError) -> bool:
    print(f"stembridge: {one_line(str(error))}", file=sys.stderr)
    return click.confirm(
        "Split with `preview` instead? It needs no model; its stems null as well, but sound like a sketch",
        default=False,
        err=True,
    )
