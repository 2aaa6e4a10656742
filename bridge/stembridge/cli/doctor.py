"""`stembridge doctor`: one page on this installation, and a remedy for everything that is wrong with it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import click

from stembridge import __version__, catalog, model_store
from stembridge.client import Client
from stembridge.errors import StembridgeError
from stembridge.processor import count_cores, count_threads
from stembridge.settings import Settings, load_settings
from stembridge.text import one_line

PACKAGES = ("numpy", "scipy", "soundfile", "soxr", "pyzmq", "pedalboard", "torch", "torchaudio", "demucs")
LITTLE_DISK_BYTES = 2_000_000_000
HARDWARE_TIMEOUT_S = 60.0


class Page:
    """Collects lines and, apart from them, what is wrong."""

    def __init__(self) -> None:
        self.faults: list[tuple[str, str]] = []

    def line(self, label: str, text: str) -> None:
        print(f"{label:<12}{one_line(text)}")

    def fault(self, what: str, remedy: str) -> None:
        self.faults.append((what, remedy))


@click.command()
def doctor() -> int:
    """Show device, models, speed, paths and versions, and what is wrong with a remedy; exit 1 if anything."""
    page = Page()
    _versions(page)
    _device(page)
    try:
        settings = load_settings()
    except StembridgeError as error:
        page.fault(error.message, error.hint)
    else:
        _workers(page, settings)
        _paths(page, settings)
        _watched(page, settings)
        _models(page, settings)
        _daemon(page, settings)
    if not page.faults:
        print("\nnothing is wrong")
        return 0
    print(f"\n{len(page.faults)} to mend:")
    for what, remedy in page.faults:
        print(f"- {one_line(what)}\n    {one_line(remedy)}")
    return 1


def _versions(page: Page) -> None:
    page.line("stembridge", f"{__version__}, Python {platform.python_version()}, {platform.platform()}")
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            if package in ("torch", "torchaudio", "demucs"):
                page.fault(f"{package} is not installed", 'pip install "stembridge[daemon]"')
            else:
                page.fault(f"{package} is not installed", "pip install --force-reinstall stembridge")
    page.line("packages", ", ".join(found))
    # Its absence is no fault: it is wanted for a few kinds of file alone, and those are refused by that name.
    page.line("ffmpeg", shutil.which("ffmpeg") or "not found; M4A, AAC, ALAC and WavPack need it")


def _device(page: Page) -> None:
    from stembridge.matrix_speed import measure_gflops

    page.line("processor", f"{os.cpu_count()} cores, {measure_gflops():.0f} GFLOP/s in float32 matrices")
    hardware = _hardware(page)
    if hardware is not None:
        build = f"CUDA {hardware['cuda_build']}" if hardware["cuda_build"] else "CPU build"
        page.line("device", f"{hardware['device_name']} (torch {hardware['torch']}, {build})")
    driver = _nvidia_driver()
    if driver is None:
        return
    page.line("GPU driver", driver)
    if hardware is not None and not hardware["cuda_build"]:
        page.fault(
            "there is a GPU, but torch is a CPU build",
            'pip install --force-reinstall "torch~=2.11.0" "torchaudio~=2.11.0"  (Windows: with the CUDA '
            "index that pytorch.org names)",
        )
    elif hardware is not None and hardware["device"] != "cuda":
        page.fault("there is a GPU, but torch cannot use it", "update the GPU's driver, then reboot")


def _hardware(page: Page) -> dict[str, str] | None:
    """Ask torch in a process of its own: the bridge never imports it."""
    command = [sys.executable, "-P", "-m", "stembridge_daemon.worker.hardware"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=HARDWARE_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        page.fault(f"torch did not load within {HARDWARE_TIMEOUT_S:.0f} s", "close other programs, try again")
        return None
    if done.returncode == 0:
        found: dict[str, str] = json.loads(done.stdout)
        return found
    if "No module named 'torch'" not in done.stderr:
        last = done.stderr.strip().splitlines() or ["no message"]
        page.fault(f"torch does not load: {last[-1]}", 'pip install --force-reinstall "stembridge[daemon]"')
    return None


def _nvidia_driver() -> str | None:
    version = Path("/proc/driver/nvidia/version")
    if version.exists():
        return version.read_text("utf-8", "replace").splitlines()[0]
    found = shutil.which("nvidia-smi")
    return f"NVIDIA ({found})" if found else None


def _workers(page: Page, settings: Settings) -> None:
    threads, cores = count_threads(settings.threads), count_cores()
    page.line("workers", f"{threads} threads on {cores} cores, {settings.worker_priority} priority")


def _paths(page: Page, settings: Settings) -> None:
    page.line("settings", f"{settings.config_file}{'' if settings.config_file.exists() else ' (none yet)'}")
    page.line("state", str(settings.state_dir))
    page.line("models in", ", ".join(map(str, settings.model_dirs)))
    place = next(path for path in (settings.state_dir, *settings.state_dir.parents) if path.exists())
    free = shutil.disk_usage(place).free
    page.line("disk", f"{free / 1e9:.0f} GB free at {place}")
    if free < LITTLE_DISK_BYTES:
        page.fault(f"{free / 1e9:.1f} GB free at {place}", "make room: a long split needs gigabytes")
    if not place.is_dir():
        page.fault(f"{place} is not a folder", "set STEMBRIDGE_HOME elsewhere")
    elif not os.access(place, os.W_OK):
        page.fault(f"{place} cannot be written", "give this user the right, or set STEMBRIDGE_HOME elsewhere")


def _watched(page: Page, settings: Settings) -> None:
    from stembridge.watch.ledger import check_apart

    roots = list(dict.fromkeys(settings.watch_dirs))
    mend = f"mend watch_dirs in {settings.config_file}"
    for number, root in enumerate(roots):
        page.line("watches", str(root))
        shown = f"watch_dirs: {str(root)!r}"
        if not os.path.lexists(root):
            page.fault(f"{shown} is not there", f"make the folder, or {mend}")
        elif not os.path.isdir(root):  # noqa: PTH112 - Path.is_dir() raises where it may not look
            page.fault(f"{shown} is no folder", mend)
        elif not os.access(root, os.R_OK | os.W_OK | os.X_OK):
            page.fault(f"{shown} cannot be read and written", f"give this user the right, or {mend}")
        for other in roots[:number]:
            try:
                check_apart((root, other))
            except StembridgeError as error:
                page.fault(f"watch_dirs: {error.message}", error.hint)


def _models(page: Page, settings: Settings) -> None:
    present = []
    for model in catalog.CATALOG:
        try:
            folders = model_store.search_folders(model, settings.model_dirs)
            if model_store.locate(model, folders) is not None:
                present.append(model.name)
        except StembridgeError as error:
            page.fault(error.message, error.hint)
    page.line("models", ", ".join(present))
    try:
        catalog.find_model(settings.model)
    except StembridgeError as error:
        page.fault(f"the default model: {error.message}", error.hint)
        return
    if settings.model not in present:
        page.fault(
            f"the default model {settings.model} is not on this machine",
            f"stembridge models fetch {settings.model}",
        )


def _daemon(page: Page, settings: Settings) -> None:
    try:
        with Client(settings) as client:
            client.hello()
            started = time.perf_counter()
            client.ping()
            round_trip_ms = (time.perf_counter() - started) * 1000
            status = client.status()
    except StembridgeError as error:
        page.fault(error.message, error.hint or "stembridge daemon logs")
        return
    except OSError as error:
        page.fault(f"no daemon can run: {error}", "mend that place, or set STEMBRIDGE_HOME elsewhere")
        return
    page.line("daemon", f"{status.version}, pid {status.pid}, answers in {round_trip_ms:.1f} ms")
    speeds = [f"{name} {1 / cost:.1f} times real time" for name, cost in sorted(status.speeds.items())]
    page.line("speed", ", ".join(speeds) if speeds else "nothing measured yet; stembridge demo measures")
    if status.version != __version__:
        page.fault(f"the daemon is {status.version}, this is {__version__}", "stembridge daemon stop")
