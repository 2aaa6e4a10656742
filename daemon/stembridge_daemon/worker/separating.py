"""What a worker does that separates: models loaded once and kept, and splits done with them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from stembridge import catalog
from stembridge.catalog import ModelKind
from stembridge.model_store import ModelFiles
from stembridge.types import Progress
from stembridge_daemon.worker.craft import Steps, Tell, refuse_task
from stembridge_daemon.worker.pipeline import run_split
from stembridge_daemon.worker.separators.base import Separator
from stembridge_daemon.worker_messages import JobEarly, Load, Models, Role, RunSplit, Task

logger = logging.getLogger(__name__)

RESIDENT_MODELS = 2
"""Models kept loaded at once; the one that was used longest ago makes room."""


class SeparatorSource(Protocol):
    """Where the worker gets its separators from; a test brings its own."""

    def get(self, files: ModelFiles, stems: Sequence[str]) -> Separator: ...

    def resident(self) -> Models: ...


class Separating:
    """Splits files with the separators of one source."""

    role = Role.SEPARATE

    def __init__(self, separators: SeparatorSource) -> None:
        self._separators = separators

    def begin(self, task: Task, tell: Tell) -> Steps:
        if not isinstance(task, RunSplit):
            raise refuse_task(self.role, task)
        yield Progress("load", 0.0)
        separator = self._load(task.model.files(), task.request.asked, tell)
        return (
            yield from run_split(
                task.id,
                task.request,
                separator,
                hear=lambda early: tell(JobEarly(task.id, early)),
            )
        )

    def warm_up(self, order: Load, tell: Tell) -> None:
        self._load(order.model.files(), (), tell, warm_up=True)

    def _load(
        self, files: ModelFiles, stems: Sequence[str], tell: Tell, *, warm_up: bool = False
    ) -> Separator:
        before = self._separators.resident()
        separator = self._separators.get(files, stems)
        if self._separators.resident().loads != before.loads:
            logger.info("loaded %s, sha256 %s", separator.name, separator.sha256 or "none")
            if warm_up:
                separator.warm_up()
        if self._separators.resident() != before:
            tell(self._separators.resident())
        return separator


class ResidentModels:
    """Loads each model once and keeps the last few of them.

    Parameters
    ----------
    threads : how many compute on a CPU; 0 leaves it to torch
    is_compiling : see `stembridge_daemon.worker.models.load_separator`
    """

    def __init__(self, device: str, threads: int, *, is_compiling: bool = False) -> None:
        self._device = device
        self._threads = threads
        self._is_compiling = is_compiling
        self._separators: dict[ModelFiles, tuple[frozenset[str], Separator]] = {}
        self._loads = 0

    def get(self, files: ModelFiles, stems: Sequence[str]) -> Separator:
        """Return the separator for ``files``, with at least the members that ``stems`` need.

        A bag that was loaded in part is loaded again with what it had and what it lacks.
        """
        model = catalog.find_model(files.name)
        wanted = frozenset(catalog.check_stems(model, stems))
        loaded, separator = self._separators.pop(files, (frozenset[str](), None))
        needed, had = (catalog.members_needed(model, tuple(names)) for names in (wanted, loaded or wanted))
        if separator is None or not set(needed) <= set(had):
            del separator
            while len(self._separators) >= RESIDENT_MODELS:
                del self._separators[next(iter(self._separators))]
            loaded |= wanted
            separator = self._load(files, tuple(loaded))
            self._loads += 1
        self._separators[files] = loaded, separator
        return separator

    def resident(self) -> Models:
        # Before the first model asks torch which device there is, only `preview` runs, and that on the CPU.
        device = "cpu" if self._device == "auto" else self._device
        return Models(tuple(files.name for files in self._separators), self._loads, device)

    def _load(self, files: ModelFiles, stems: Sequence[str]) -> Separator:
        if catalog.find_model(files.name).kind is ModelKind.PREVIEW:
            from stembridge_daemon.worker.separators.preview import PreviewSeparator

            return PreviewSeparator()
        import torch

        from stembridge_daemon.worker.hardware import best_device
        from stembridge_daemon.worker.models import load_separator

        if self._threads > 0:
            torch.set_num_threads(self._threads)
        if self._device == "auto":
            self._device = best_device()
        return load_separator(
            files.name, files, device=self._device, stems=stems, is_compiling=self._is_compiling
        )
