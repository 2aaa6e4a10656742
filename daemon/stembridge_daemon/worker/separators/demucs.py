"""Demucs models of every kind, alone or as a bag, behind the Separator protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from stembridge.errors import ModelError
from stembridge.types import Precision
from stembridge_daemon.worker.forward.compiling import compile_forward
from stembridge_daemon.worker.forward.runner import Runner
from stembridge_daemon.worker.separators import engine
from stembridge_daemon.worker.separators.base import Block, MixtureReader, PrecisionChoice, SeparationPlan


@dataclass(frozen=True, slots=True)
class BagMember:
    """One model of a bag.

    Parameters
    ----------
    module : takes (batch, channels, frames), returns (batch, sources, channels, frames); None where it is not
        loaded because no wanted stem needs it
    segment_frames : length of a segment
    input_frames : gives the length of input that the module wants for a segment of so many frames
    weights : its weight for each source
    """

    module: torch.nn.Module | None
    segment_frames: int
    input_frames: Callable[[int], int]
    weights: tuple[float, ...]


class DemucsSeparator:
    """A resident bag of models on one device; a bag of one is a single model.

    Parameters
    ----------
    name : official name
    sources : in the order of the models' output
    sample_rate : in Hz
    channels : of the mixture and of each stem
    members : all models of the bag, in its order
    device : 'cpu', 'cuda', 'cuda:1', 'mps'
    sha256 : identity of all files together
    is_compiling : on CUDA, torch.compile works in the background while the eager path serves
    """

    def __init__(
        self,
        *,
        name: str,
        sources: tuple[str, ...],
        sample_rate: int,
        channels: int,
        members: Sequence[BagMember],
        device: str,
        sha256: str,
        is_compiling: bool = False,
    ) -> None:
        self.name = name
        self.sources = sources
        self.sample_rate = sample_rate
        self.channels = channels
        self.sha256 = sha256
        # Only the CPU's kernels were measured to repeat themselves bit for bit.
        self.is_deterministic = torch.device(device).type == "cpu"
        is_compiling = is_compiling and torch.device(device).type == "cuda"
        self._members = tuple(members)
        self._runners = tuple(
            Runner(
                member.module,
                name=name,
                channels=channels,
                sources=len(sources),
                device=device,
                compile_=compile_forward if is_compiling else None,
            )
            if member.module is not None
            else None
            for member in members
        )
        self.segment_frames = max(
            _longest_input(member)
            for member, runner in zip(self._members, self._runners, strict=True)
            if runner is not None
        )

    def choose_precision(self, asked: Precision) -> PrecisionChoice:
        """Return half precision where every loaded member has it and passes its check, else why not."""
        if asked is Precision.FULL:
            return PrecisionChoice(asked)
        for member, runner in zip(self._members, self._runners, strict=True):
            reason = "" if runner is None else runner.refuse_half(_longest_input(member))
            if reason:
                return PrecisionChoice(Precision.FULL, reason)
        return PrecisionChoice(asked)

    def count_steps(self, frames: Sequence[int], plan: SeparationPlan) -> int:
        """Return the number of blocks: one per segment of each member that runs, under each shift."""
        return engine.count_steps(self._engine_members(plan), frames, self.sample_rate, self._wanted(plan))

    def separate(self, readers: Sequence[MixtureReader], plan: SeparationPlan) -> Iterator[Block]:
        """Yield a block per segment; see `engine.separate`.

        Raises
        ------
        RequestError
            A plan that does not fit the model.
        ModelError
            A source whose member was not loaded.
        """
        return engine.separate(self._engine_members(plan), readers, self.sample_rate, self._wanted(plan))

    def warm_up(self) -> None:
        """Run every loaded member on silence, so that the first job does not pay for the first call."""
        for member, runner in zip(self._members, self._runners, strict=True):
            if runner is not None:
                runner.warm_up(_longest_input(member))

    def _wanted(self, plan: SeparationPlan) -> engine.Wanted:
        wanted = engine.wanted_of(plan, self.sources)
        for member, runner in zip(self._members, self._runners, strict=True):
            if runner is None and any(member.weights[index] for index in wanted.indices):
                raise ModelError(
                    f"{self.name} is loaded without the member for {', '.join(plan.sources)}",
                    "load it with these stems",
                )
        return wanted

    def _engine_members(self, plan: SeparationPlan) -> tuple[engine.EngineMember, ...]:
        """Return the members as the engine takes them, each with its runner in the plan's precision."""
        return tuple(
            _engine_member(member, runner, plan.precision)
            for member, runner in zip(self._members, self._runners, strict=True)
        )


def _engine_member(member: BagMember, runner: Runner | None, precision: Precision) -> engine.EngineMember:
    if runner is None:
        return engine.EngineMember(_run_nothing, member.segment_frames, member.input_frames, member.weights)
    return engine.EngineMember(
        partial(runner.run, precision=precision),
        member.segment_frames,
        member.input_frames,
        member.weights,
        partial(runner.batch_limit, _longest_input(member), precision),
    )


def _longest_input(member: BagMember) -> int:
    return member.input_frames(member.segment_frames)


def _run_nothing(batch: NDArray[np.float32], sources: Sequence[int]) -> engine.Answer:
    raise ModelError("a member that is not loaded was asked to run")
