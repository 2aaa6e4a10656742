"""Builds the plugin of fixture.c, in the variant a test wants, as a bundle that a host accepts."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("fixture.c")
FAULTS = {"none": 0.0, "crash": 0.2, "abort": 0.4, "hang": 0.6, "nan": 0.8, "silence": 1.0}
"""Raw value of the parameter `fault` by what it does."""
AT_LOAD = {"none": 0, "abort": 1, "hang": 2, "crash": 3}


def reason_not_to_build() -> str:
    """Return why the fixture cannot be built here, or ''."""
    if platform.system() != "Linux":
        return "macOS and Windows lay their bundles out otherwise"
    return "" if shutil.which("cc") else "no C compiler"


needs_fixture = pytest.mark.skipif(bool(reason_not_to_build()), reason=reason_not_to_build())
"""Marks tests that build the plugin."""


def build_plugin(
    folder: Path,
    name: str = "Fixture",
    *,
    delay_frames: int = 0,
    reported_frames: int = 0,
    channels: int = 0,
    at_load: str = "none",
    classes: int = 1,
) -> Path:
    """Return the bundle ``folder``/``name``.vst3, made now.

    Parameters
    ----------
    folder : where the bundle goes
    name : of the file and of the plugin
    delay_frames, reported_frames : how late its output is, and what it says of that
    channels : the one number of channels that it takes; 0 for one and two
    at_load : a key of `AT_LOAD`
    classes : how many plugins the bundle holds: 1, or 2, the second of which halves
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
        "CLASSES": classes,
    }
    command = ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", str(SOURCE), "-o", str(module)]
    subprocess.run([*command, *(f"-D{key}={value}" for key, value in defines.items())], check=True)
    return bundle
