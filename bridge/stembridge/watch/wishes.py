"""What is wished for a file in a watched folder: settings by the place where it lies.

::

    settings.toml                       of this machine
    ROOT/stembridge.toml                of the watched folder, which alone may hold [watch]
    ROOT/karaoke/                       a folder called like a use or a preset says so by its name
    ROOT/karaoke/stembridge.toml        of that folder and of all below
    ROOT/karaoke/song.stembridge.toml   of song.wav and song.flac; song.wav.stembridge.toml wins over it

Later places win over earlier ones, key by key.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stembridge.settings import Settings
from stembridge.types import RemixRequest, SplitRequest

FOLDER_FILE = "stembridge.toml"
SIDECAR_ENDING = ".stembridge.toml"


@dataclass(frozen=True, slots=True)
class FolderSettings:
    """How a folder is watched: the table [watch] of its ``stembridge.toml``.

    Parameters
    ----------
    results : name of the folder in it that gets result folders
    quiet_s : seconds without a change after which a file may be taken; None leaves it to the kind of disk
    is_network : whether it lies on another machine; None means that is found out
    notify : desktop notifications are wanted
    scan_s : seconds from one scan to the next; None leaves it to the kind of disk
    """

    results: str = "stems"
    quiet_s: float | None = None
    is_network: bool | None = None
    notify: bool = True
    scan_s: float | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be made of one file.

    Parameters
    ----------
    split : with its paths, ready to be submitted
    remixes : what is to be made of the finished set; ``source``, its folder, is left ''
    digest : sha256 of all that was wished; the same for the same wish in whatever folder
    places : the files that were read for it, in their order
    """

    split: SplitRequest
    remixes: tuple[RemixRequest, ...]
    digest: str
    places: tuple[Path, ...]


def list_places(root: Path, name: str) -> tuple[Path, ...]:
    """Return all files that may say something of a file, whether or not they exist, later ones winning.

    Parameters
    ----------
    name : the file's path from ``root`` on, with '/'
    """
    parts = name.split("/")
    folders = [root.joinpath(*parts[:depth]) for depth in range(len(parts))]
    file = folders[-1] / parts[-1]
    sidecars = dict.fromkeys((file.with_suffix(SIDECAR_ENDING), file.with_name(file.name + SIDECAR_ENDING)))
    return (*(folder / FOLDER_FILE for folder in folders), *sidecars)


def read_wish(root: Path, name: str, settings: Settings) -> Wish:
    """Return what is wished for a file of a watched folder, checked so far as can be without its audio.

    Parameters
    ----------
    root : the watched folder
    name : the file's path from there on, with '/'

    Raises
    ------
    RequestError, PresetError, ModelError
        A key or a value that is not one of ours, or wishes that exclude each other; with file, line and key.
    """
    raise NotImplementedError


def read_folder_settings(root: Path) -> FolderSettings:
    """Return how a folder is to be watched.

    Raises
    ------
    RequestError
        Its ``stembridge.toml`` holds a key or a value that is not one of ours, or cannot be read.
    """
    raise NotImplementedError
