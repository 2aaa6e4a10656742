"""What a worker does that renders remixes: no model and no torch, and plugins in processes of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from stembridge.settings import Settings
from stembridge.stages import tell_time_left
from stembridge.types import Progress, RemixRequest
from stembridge_daemon.failpoints import failpoint
from stembridge_daemon.worker.craft import Steps, Tell, refuse_task
from stembridge_daemon.worker_messages import Load, Role, RunRemix, Task


class Render(Protocol):
    """`stembridge.mixdown.render.render_remix`; a test brings its own."""

    def __call__(
        self,
        request: RemixRequest,
        job_id: str,
        settings: Settings,
        *,
        before_each: Callable[[str], None],
    ) -> Steps: ...


class Rendering:
    """Renders remixes under the settings that were in force when the worker was started."""

    role = Role.RENDER

    def __init__(self, render: Render, settings: Settings) -> None:
        self._render = render
        self._settings = settings

    def begin(self, task: Task, tell: Tell) -> Steps:
        if not isinstance(task, RunRemix):
            raise refuse_task(self.role, task)
        yield Progress("load", 0.0)
        steps = self._render(
            task.request,
            task.id,
            self._settings,
            before_each=lambda step: failpoint(f"render-before-{step}"),
        )
        result = yield from tell_time_left(steps)
        failpoint("render-after-rename")
        return result

    def warm_up(self, order: Load, tell: Tell) -> None:
        """There is nothing to load before a job: models are the other worker's."""
