"""What every benchmark writes: its figures, and what somebody else needs to get them again."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

PACKAGES = ("numpy", "pedalboard", "scipy", "soundfile", "soxr", "pyzmq", "torch", "torchaudio", "demucs")


def write_report(
    name: str,
    command: Sequence[str],
    seed: int | Sequence[int] | None,
    figures: Mapping[str, object],
    path: Path,
) -> None:
    """Write a benchmark's figures as JSON with the commit, command, seed and versions they come from.

    Parameters
    ----------
    name : the benchmark's name
    command : the arguments that ran it, the program first, as in sys.argv
    seed : the seed or seeds of everything random, or None where nothing is
    figures : what was measured, as JSON can say it; ratios rather than seconds
    path : the file to write; its folder is made
    """
    report = {
        "benchmark": name,
        "command": " ".join([Path(command[0]).name, *command[1:]]),
        "commit": _commit(),
        "seed": seed,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu_count": os.cpu_count(),
        "packages": {package: found for package in PACKAGES if (found := _version(package))},
        "figures": figures,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _commit() -> str:
    """Return the commit of the benchmarks' repository, '+dirty' when tracked files differ, or 'unknown'."""
    where = Path(__file__).parent
    try:
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=where, capture_output=True, text=True, check=True
        )
        dirty = subprocess.run(["git", "diff", "--quiet", "HEAD"], cwd=where, check=False).returncode != 0
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+dirty" if dirty else "")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
