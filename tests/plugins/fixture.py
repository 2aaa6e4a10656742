"""Builds the plugin of fixture.c, in the variant a test wants, as a bundle that a host accepts."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("fixture.c")
FAULTS = {"none": 0.0, "crash": 0.2, "abort": 0.4, "hang": 0.6, "nan": 0.8, "silence": 1.0}
"""Raw value of the parameter `fault` by what it does."""
AT_LOAD = {"none": 0, "abort": 1, "hang": 2, "crash": 3}


def has_compiler() -> bool:
    """Whether the fixture can be built here: it needs a C compiler, and Linux's layout of bundles."""
    return platform.system() == "Linux" and shutil.which("cc") is not None


def build_plugin(
    folder: Path,
    name: str = "Fixture",
    *,
    delay_frames: int = 0,
    reported_frames: int = 0,
    channels: int = 0,
    at_load: str = "none",
) -> Path:
    """Return the bundle ``folder``/``name``.vst3, made now.

    Parameters
    ----------
    folder : where the bundle goes
    name : of the file and of the plugin
    delay_frames, reported_frames : how late its output is, and what it says of that
    channels : the one number of channels that it takes; 0 for one and two
    at_load : a key of `AT_LOAD`
    """
    bundle = folder / f"{name}.vst3"
    module = bundle / "Contents" / f"{platform.machine()}-linux" / f"{name}.so"
    module.parent.mkdir(parents=True)
    defines = {
        "NAME": f'"{name}"',
        "DELAY": delay_frames,
        "REPORTED": reported_frames,
        "CHANNELS": channels,
        "AT_LOAD": AT_LOAD[at_load],
    }
    command = ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", str(SOURCE), "-o", str(module)]
    subprocess.run([*command, *(f"-D{key}={value}" for key, value in defines.items())], check=True)
    return bundle
