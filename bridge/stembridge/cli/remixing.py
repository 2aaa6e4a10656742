"""Carries out a batch of remixes: splits what is not split, renders here, goes on after a failure."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from stembridge.cli.job_line import job_json
from stembridge.cli.split import announce, glance, present_model, run_splits
from stembridge.client import Client, new_job_id
from stembridge.delivery import check_file_names, check_practice, check_sessions
from stembridge.errors import JobCancelled, OutputError, PresetError, StembridgeError
from stembridge.file_lock import FileLock
from stembridge.local_job import ctrl_c_answered, run_here
from stembridge.manifest import read_manifest
from stembridge.mixdown.batch import (
    Batch,
    Output,
    Variant,
    derive_job_id,
    describe_preset,
    describe_set,
    describe_split,
    list_stems,
    make_request,
)
from stembridge.presets import Preset, find_preset, name_owner, read_preset
from stembridge.progress import progress_shown
from stembridge.settings import Settings
from stembridge.text import one_line
from stembridge.types import Job, JobState, SplitRequest

if TYPE_CHECKING:
    from stembridge.mixdown.finding import Samples

EXIT_PARTLY = 3


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One preset, with what is changed in it, into one output."""

    variant: Variant
    output: Output
    preset: Preset
    owner: str

    @property
    def name(self) -> str:
        return (
            Path(self.variant.preset).stem if self.variant.preset.endswith(".toml") else self.variant.preset
        )


@dataclass
class BatchRun:
    """One run of a batch.

    Parameters
    ----------
    is_resumable : a remix that was rendered before is not rendered again
    as_json : jobs and errors as lines of JSON on stdout, nothing else
    yes : fetch a model that is not here without asking
    """

    batch: Batch
    settings: Settings
    is_resumable: bool = False
    as_json: bool = False
    yes: bool = False
    _rendered: int = 0
    _skipped: int = 0
    _failures: list[int] = field(default_factory=list)
    _client: Client | None = None
    _has_printed: bool = False

    def run(self) -> int:
        """Render all, print each result as it comes, and return one exit code for all.

        Raises
        ------
        RequestError : a preset, a model or an option that cannot be; nothing has been done then
        OutputError : another batch is filling the same folder
        JobCancelled : Ctrl-C
        """
        for output in self.batch.outputs:
            check_practice(output.speed, output.pitch)
            check_file_names(output.file_names)
            check_sessions(output.sessions)
        wanted = [
            self._read_wanted(variant, output)
            for variant in self.batch.variants
            for output in self.batch.outputs
        ]
        if not all(source.is_dir() for source in self.batch.inputs):
            list_stems(self.batch.split)
        with ExitStack() as stack:
            if self.is_resumable:
                self._lock_outputs(stack)
            try:
                for source in self.batch.inputs:
                    with self._complaining(source):
                        self._remix(source, wanted, stack)
            except KeyboardInterrupt:
                raise JobCancelled("cancelled; nothing half-written is left") from None
        self._tell_sum()
        done = self._rendered + self._skipped
        return EXIT_PARTLY if done and self._failures else self._failures[0] if self._failures else 0

    def _lock_outputs(self, stack: ExitStack) -> None:
        """Keep other batches out: the same remix has the same id there, and so the same place to work in."""
        for folder in sorted({output.folder.resolve() for output in self.batch.outputs}):
            lock = FileLock(lock_path(self.settings, folder))
            if not lock.acquire():
                raise OutputError(f"{str(folder)!r} is being filled by another batch", "wait for its end")
            stack.callback(lock.release)

    def _read_wanted(self, variant: Variant, output: Output) -> _Wanted:
        path = find_preset(variant.preset, self.settings)
        preset = read_preset(path, (*variant.changes, *output.changes))
        return _Wanted(variant, output, preset, name_owner(path, self.settings))

    def _remix(self, source: Path, wanted: Sequence[_Wanted], stack: ExitStack) -> None:
        if source.is_dir():
            self._remix_set(source, wanted)
        else:
            self._remix_file(source, wanted, stack)

    def _remix_set(self, folder: Path, wanted: Sequence[_Wanted]) -> None:
        manifest = read_manifest(folder)
        fitting = self._keep_fitting(folder, wanted, [stem.name for stem in manifest.stems])
        content = describe_set(manifest) if self.is_resumable else ""
        self._render_each(folder, folder, self._skip_finished(folder, fitting, content))

    def _remix_file(self, source: Path, wanted: Sequence[_Wanted], stack: ExitStack) -> None:
        from stembridge.mixdown.finding import Samples

        # What is no audio is told before anybody is asked for a model.
        glance(str(source))
        samples = Samples(source)
        request = replace(self.batch.split, source=str(source))
        fitting = self._keep_fitting(source, wanted, list_stems(request))
        content = describe_split(request, samples.sha256) if fitting and self.is_resumable else ""
        missing = self._skip_finished(source, fitting, content)
        folder = self._find_or_split(request, samples, [one for one, _ in missing], stack)
        if folder is not None:
            self._render_each(source, folder, missing)

    def _keep_fitting(
        self, source: Path, wanted: Sequence[_Wanted], stems: Sequence[str]
    ) -> tuple[_Wanted, ...]:
        """Return what can be rendered from a set of these stems; complain of the rest."""
        fitting = []
        for one in wanted:
            with self._complaining(source, one):
                one.preset.check_stems(stems)
                fitting.append(one)
        return tuple(fitting)

    def _skip_finished(
        self, source: Path, wanted: Sequence[_Wanted], content: str
    ) -> tuple[tuple[_Wanted, str], ...]:
        """Return what is to be rendered, each with the id of its job; tell of what is there already."""
        if not self.is_resumable:
            return tuple((one, new_job_id()) for one in wanted)
        from stembridge.mixdown.finding import find_remix

        missing = []
        for one in wanted:
            request = make_request(source, one.variant, one.output)
            job_id = derive_job_id(content, describe_preset(one.preset, self.settings), request)
            folder = find_remix(one.output.folder, job_id)
            if folder is None:
                missing.append((one, job_id))
                continue
            self._skipped += 1
            if self.as_json:
                _print_json(source=str(source), preset=one.variant.preset, found=str(folder))
            else:
                print(f"{one_line(source.name)}, {one.name}: there already, {one_line(str(folder))}")
        return tuple(missing)

    def _find_or_split(
        self, request: SplitRequest, samples: Samples, wanted: Sequence[_Wanted], stack: ExitStack
    ) -> Path | None:
        """Return a set of ``request``; None where nothing is wanted of it or its split has failed."""
        from stembridge.mixdown.finding import find_set

        if not wanted:
            return None
        folder = find_set(self.batch.sets, request, samples, lambda names: _serve(names, request, wanted))
        if folder is not None:
            if self.as_json:
                _print_json(source=request.source, stems=str(folder))
            else:
                print(f"{one_line(samples.path.name)}: its stems are there already, {one_line(str(folder))}")
            return folder
        with_model = present_model(
            request,
            self.settings,
            is_named=self.batch.is_model_named,
            yes=self.yes,
            quiet=self.as_json,
        )
        if with_model != request:
            # Somebody has chosen another model: for this file and those that follow.
            self.batch = replace(self.batch, split=replace(with_model, source=""), is_model_named=True)
            return self._find_or_split(with_model, samples, wanted, stack)
        if self._client is None:
            self._client = stack.enter_context(Client(self.settings))
        if not self.as_json:
            announce([request], self._client)
        outcome = run_splits(self._client, [request], as_json=self.as_json)
        if outcome.folders:
            self._has_printed = True
            return outcome.folders[0]
        self._failures.append(outcome.exit_code)
        return None

    def _render_each(self, source: Path, folder: Path, missing: Sequence[tuple[_Wanted, str]]) -> None:
        for one, job_id in missing:
            with self._complaining(source, one):
                self._render(folder, one, job_id)

    def _render(self, folder: Path, one: _Wanted, job_id: str) -> None:
        from stembridge.cli.remix_table import print_remix
        from stembridge.mixdown.render import render_remix

        request = make_request(folder, one.variant, one.output)
        job = Job(job_id, None, JobState.QUEUED, created=time.time(), remix=request)
        with progress_shown(is_on=not self.as_json) as show, ctrl_c_answered():
            done = run_here(render_remix(request, job_id, self.settings), job, show)
        assert done.result is not None
        if self.as_json:
            print(job_json(done), flush=True)
        else:
            print("\n" * self._has_printed, end="")
            print_remix(done.result, one.preset, one.owner)
            self._has_printed = True
        self._rendered += 1

    @contextmanager
    def _complaining(self, source: Path, one: _Wanted | None = None) -> Iterator[None]:
        """Take note of an error of ours or of the system and go on; a cancelled run does not."""
        try:
            yield
        except JobCancelled:
            raise
        except (StembridgeError, OSError) as error:
            known = name_error(error)
            self._failures.append(known.exit_code)
            if self.as_json:
                print_error(known, source=str(source), preset=one.variant.preset if one else None)
            else:
                place = f"{one_line(source.name)}, {one.name}: " if one else ""
                print(f"stembridge: {place}{one_line(str(known))}", file=sys.stderr)

    def _tell_sum(self) -> None:
        parts = {"rendered": self._rendered, "there already": self._skipped, "failed": len(self._failures)}
        if not self.as_json and sum(parts.values()) > 1:
            counts = ", ".join(f"{count} {what}" for what, count in parts.items() if count)
            print(f"\nremixes: {counts}")


def lock_path(settings: Settings, folder: Path) -> Path:
    """Return where a batch holds a lock while it fills ``folder``, however that is spelt."""
    digest = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    return settings.state_dir / "locks" / f"remixes-{digest}.lock"


def _serve(names: Sequence[str], request: SplitRequest, wanted: Sequence[_Wanted]) -> bool:
    """Tell whether stems of these names do: those that were asked for, or all that there are, if all fit."""
    everything = replace(request, stems=(), two_stems=None)
    if set(names) == set(list_stems(request)):
        return True
    return set(names) == set(list_stems(everything)) and all(_fits(one.preset, names) for one in wanted)


def _fits(preset: Preset, stems: Sequence[str]) -> bool:
    try:
        preset.check_stems(stems)
    except PresetError:
        return False
    return True


def name_error(error: StembridgeError | OSError) -> StembridgeError:
    """Return an error of ours as it is, and one of the system as one of ours."""
    if isinstance(error, StembridgeError):
        return error
    named = f"{str(error.filename)!r}: " if error.filename is not None else ""
    return OutputError(f"{named}{error.strerror or error}", "check the disk and its rights")


def print_error(error: StembridgeError, *, source: str | None = None, preset: str | None = None) -> None:
    """Print an error as a line of JSON; without a source it is one of all that was asked for."""
    _print_json(source=source, preset=preset, error=error.code, message=error.message, hint=error.hint)


def _print_json(**fields: str | None) -> None:
    print(json.dumps(fields), flush=True)
