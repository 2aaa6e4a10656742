"""What a worker does that renders remixes: no model and no torch, and plugins in processes of their own."""

from __future__ import annotations

from stembridge.settings import Settings
from stembridge.types import Progress
from stembridge_daemon.failpoints import failpoint
from stembridge_daemon.worker.craft import Steps, Tell, refuse_task
from stembridge_daemon.worker_messages import Load, Role, RunRemix, Task


class Rendering:
    """Renders remixes under the settings that were in force when the worker was started."""

    role = Role.RENDER

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def begin(self, task: Task, tell: Tell) -> Steps:
        if not isinstance(task, RunRemix):
            raise refuse_task(self.role, task)
        yield Progress("load", 0.0)
        from stembridge.remix.render import render_remix

        result = yield from render_remix(
            task.request,
            task.id,
            self._settings,
            before_each=lambda step: failpoint(f"render-before-{step}"),
        )
        failpoint("render-after-rename")
        return result

    def warm_up(self, order: Load, tell: Tell) -> None:
        """There is nothing to load before a job: models are the other worker's."""
