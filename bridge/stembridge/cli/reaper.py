"""`stembridge reaper install | uninstall`: the scripts that REAPER runs."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import click

from stembridge.reaper.install import (
    check_resource,
    find_cli,
    find_register,
    find_resource,
    find_scripts,
    install,
    resource_places,
    uninstall,
)
from stembridge.settings import load_settings

_PYTHON_STEPS = """\
For Python, in REAPER's Preferences > Plug-ins > ReaScript:
  tick "Enable Python for use with ReaScript"
  "Custom path to Python dll directory": {folder}
  "Force ReaScript to use specific Python dll": {file}"""


@click.group("reaper")
def reaper_group() -> None:
    """REAPER: put the actions into its list, or take them out."""


_resource_option = click.option(
    "--resource",
    type=click.Path(path_type=Path, file_okay=False),
    help="REAPER's resource folder, where it is not the usual one.",
)


@reaper_group.command("install")
@_resource_option
@click.option("--python", "use_python", is_flag=True, help="The Python actions in place of the Lua ones.")
def install_command(resource: Path | None, use_python: bool) -> None:
    """Copy the scripts into REAPER's folder and make it list their actions."""
    settings = load_settings()
    folder = _find_folder(resource)
    for line in install(
        folder,
        settings,
        language="py" if use_python else "lua",
        cli=find_cli(),
        scripts=find_scripts(),
    ):
        click.echo(line)
    if settings.home is not None:
        click.echo(_tell_home(settings.home, sys.platform))
    if use_python:
        place, file = _python_library()
        click.echo(_PYTHON_STEPS.format(folder=place, file=file))
    click.echo('Restart REAPER; then the action list (?) has them: type "stembridge".')
    click.echo(
        "Without a restart: in the action list, New action > Load ReaScript, choose "
        f"{find_register(folder)} and run it once."
    )


def _tell_home(home: Path, system: str) -> str:
    """Return how REAPER gets the variable that leads its scripts to the same daemon."""
    if system == "win32":
        return f"Set STEMBRIDGE_HOME={home} in your account's environment variables, then start REAPER anew"
    value = f"STEMBRIDGE_HOME={shlex.quote(str(home))}"
    if system == "darwin":
        return f"Start REAPER as: open -n /Applications/REAPER.app --env {value}"
    return f"Start REAPER as: {value} reaper"


@reaper_group.command("uninstall")
@_resource_option
def uninstall_command(resource: Path | None) -> None:
    """Take away everything that install has written; projects and stems stay."""
    done = uninstall(_find_folder(resource))
    for line in done or ["nothing of Stembridge is there"]:
        click.echo(line)
    if done:
        click.echo("REAPER lists the names until they are deleted there: select them, press Delete.")


def _find_folder(resource: Path | None) -> Path:
    if resource is not None:
        return check_resource(resource)
    return find_resource(resource_places(sys.platform, os.environ, Path.home()))


def _python_library() -> tuple[str, str]:
    """Return folder and name of this interpreter's shared library; what to look for where it has none."""
    import sysconfig

    if sys.platform == "win32":
        return sys.base_prefix, f"python{sys.version_info.major}{sys.version_info.minor}.dll"
    # A framework build of macOS names its library below the folder of all frameworks.
    folder = sysconfig.get_config_var("PYTHONFRAMEWORKPREFIX") or sysconfig.get_config_var("LIBDIR") or ""
    library = Path(folder) / (sysconfig.get_config_var("INSTSONAME") or "")
    if library.suffix == ".a" or not library.is_file():
        ending = "dylib" if sys.platform == "darwin" else "so"
        return "the folder of a shared Python 3.8 or later", f"libpython3.*.{ending}"
    return str(library.parent), library.name


@reaper_group.command("run", hidden=True)
@click.option("--request", required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--status", required=True, type=click.Path(path_type=Path, dir_okay=False))
def run_command(request: Path, status: Path) -> None:
    """Carry a script's notes to the daemon and its replies back; the Lua scripts start this themselves."""
    from stembridge.client import Client
    from stembridge.reaper.courier import carry

    with Client() as client:
        carry(client, request, status)
