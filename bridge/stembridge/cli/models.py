"""``stembridge models list | fetch | where``: what there is, what is here, how it gets here."""

from __future__ import annotations

from pathlib import Path

import click

from stembridge.catalog import CATALOG, CatalogModel, Member, ModelKind, find_model
from stembridge.cli.completion import complete_models
from stembridge.errors import ModelError
from stembridge.model_store import (
    FetchPlan,
    ModelFiles,
    ReportProgress,
    checksum_in_name,
    fetch,
    file_sha256,
    locate,
    plan_fetch,
    search_folders,
)

CANCELLED = 130
"""Exit code of a command that was interrupted."""


@click.group("models")
def models_group() -> None:
    """Models: which there are, which are here, and how to get one."""


def folders_searched(model: CatalogModel) -> tuple[Path, ...]:
    """Return our own folders, then those of demucs and torchaudio themselves."""
    from stembridge.settings import load_settings

    return search_folders(model, load_settings().model_dirs)


@models_group.command("list")
def list_models() -> None:
    """Show every model by its official name."""
    for model in CATALOG:
        files = locate(model, folders_searched(model))
        where = "not here" if files is None else str(files.folder or "needs no files")
        facts = [where, _size(model, files), " ".join(model.sources)]
        click.echo(f"{model.name}: {', '.join(fact for fact in facts if fact)}\n    {model.description}")


def _size(model: CatalogModel, files: ModelFiles | None) -> str:
    """Return the size on disk, or about what the download would be."""
    if files is not None and files.members:
        return _megabytes(sum(path.stat().st_size for path in files.members))
    if model.size_bytes is None:
        return "size told before the download"
    return f"about {_megabytes(model.size_bytes)}" if model.size_bytes else ""


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e6:.2f} MB"


@models_group.command("where")
@click.argument("name", required=False, shell_complete=complete_models)
def show_places(name: str | None) -> None:
    """Show the folders searched and the files found, each with its sha256."""
    if name is None:
        for model in CATALOG:
            files = locate(model, folders_searched(model))
            if files is not None and files.folder is not None:
                _show_files(files)
        click.echo("folders searched, in this order:")
        for folder in dict.fromkeys(path for model in CATALOG for path in folders_searched(model)):
            click.echo(f"  {folder}")
        return
    model = find_model(name)
    if model.kind is ModelKind.PREVIEW:
        click.echo(f"{name} needs no files")
        return
    files = locate(model, folders_searched(model))
    if files is not None:
        _show_files(files)
        return
    click.echo(
        f"{name} is not here; `stembridge models fetch {name}` gets it, or put these files into one folder:"
    )
    for member in model.members:
        click.echo(f"  {file_names(model, member)}")
    click.echo("Folders searched, in this order:")
    for folder in folders_searched(model):
        click.echo(f"  {folder}")


def file_names(model: CatalogModel, member: Member) -> str:
    """Return the names under which a member's file is recognised."""
    if model.kind is ModelKind.TORCHAUDIO:
        return f"{member.signature}.pt"
    return f"{member.signature}.safetensors or {member.signature}-{member.checksum}.th"


def _show_files(files: ModelFiles) -> None:
    click.echo(f"{files.name} in {files.folder}")
    if files.bag is not None:
        click.echo(f"  {files.bag.name}: replaces the official members, weights and segment")
    official = {member.checksum for member in find_model(files.name).members if member.checksum}
    for path in files.members:
        digest = file_sha256(path)
        promised = checksum_in_name(path)
        if not digest.startswith(promised):
            verdict = f"WRONG: its name says {promised}"
        elif digest[:8] in official:
            verdict = "the official file"
        else:
            verdict = ""
        click.echo(f"  {path.name}  sha256 {digest}  {verdict}".rstrip())


@models_group.command("fetch")
@click.argument("name", shell_complete=complete_models)
@click.option("--yes", is_flag=True, help="Download without asking.")
@click.option("--into", type=click.Path(path_type=Path, file_okay=False), help="Folder to download into.")
def fetch_command(name: str, yes: bool, into: Path | None) -> None:
    """Download a model from its official place, after one question."""
    from stembridge.settings import load_settings

    model = find_model(name)
    if into is None:
        here = locate(model, folders_searched(model))
        if here is not None:
            click.echo(f"{name} is here already" + (f": {here.folder}" if here.folder else ""))
            return
        into = load_settings().model_dirs[0]
    fetch_model(model, into, yes=yes)


def fetch_model(model: CatalogModel, into: Path, *, yes: bool) -> None:
    """Download what ``into`` lacks of the model, after one question on the terminal unless ``yes``.

    Raises
    ------
    ModelError
        The answer was no, or the download failed.
    """
    plan = plan_fetch(model, into)
    if not plan.files:
        click.echo(f"{model.name} is here already: {into}", err=True)
        return
    size = "an unknown number of bytes" if plan.size_bytes is None else _megabytes(plan.size_bytes)
    if not yes and not click.confirm(f"{model.name}: download {size} into {into}?", default=True, err=True):
        raise ModelError(
            f"model {model.name} was not fetched", f"`stembridge models fetch {model.name}` gets it"
        )
    try:
        paths = _fetch_with_bar(plan)
    except KeyboardInterrupt:
        click.echo(f"stopped; `stembridge models fetch {model.name}` goes on where it was", err=True)
        raise click.exceptions.Exit(CANCELLED) from None
    for path in paths:
        click.echo(f"{path}  sha256 {file_sha256(path)}", err=True)


def _fetch_with_bar(plan: FetchPlan) -> tuple[Path, ...]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(plan.model, total=plan.size_bytes)

        def show(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total)

        report: ReportProgress = show
        return fetch(plan, report)
