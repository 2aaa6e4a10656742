"""Demucs models of every kind, alone or as a bag, behind the Separator protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from stembridge.errors import ModelError
from stembridge.types import Precision
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
    ) -> None:
        self.name = name
        self.sources = sources
        self.sample_rate = sample_rate
        self.channels = channels
        self.sha256 = sha256
        self._device = torch.device(device)
        # Only the CPU's kernels were measured to repeat themselves bit for bit.
        self.is_deterministic = self._device.type == "cpu"
        self._members = tuple(self._prepare(member) for member in members)
        self.segment_frames = max(
            one.input_frames(one.segment_frames)
            for one, member in zip(self._members, members, strict=True)
            if member.module is not None
        )
        self._loaded = tuple(member.module is not None for member in members)

    def choose_precision(self, asked: Precision) -> PrecisionChoice:
        """Return full precision, and why where half was asked for."""
        reason = "" if asked is Precision.FULL else f"{self.name} has no half-precision path"
        return PrecisionChoice(Precision.FULL, reason)

    def count_steps(self, frames: Sequence[int], plan: SeparationPlan) -> int:
        """Return the number of blocks: one per segment of each member that runs, under each shift."""
        return engine.count_steps(self._members, frames, self.sample_rate, self._wanted(plan))

    def separate(self, readers: Sequence[MixtureReader], plan: SeparationPlan) -> Iterator[Block]:
        """Yield a block per segment; see `engine.separate`.

        Raises
        ------
        RequestError
            A plan that does not fit the model.
        ModelError
            A source whose member was not loaded.
        """
        return engine.separate(self._members, readers, self.sample_rate, self._wanted(plan))

    def warm_up(self) -> None:
        """Run every loaded member once on silence, so that the first job does not pay for the first call."""
        for member, is_loaded in zip(self._members, self._loaded, strict=True):
            if is_loaded:
                frames = member.input_frames(member.segment_frames)
                member.run(np.zeros((1, self.channels, frames), dtype=np.float32), (0,))

    def _wanted(self, plan: SeparationPlan) -> engine.Wanted:
        wanted = engine.wanted_of(plan, self.sources)
        for member, is_loaded in zip(self._members, self._loaded, strict=True):
            if not is_loaded and any(member.weights[index] for index in wanted.indices):
                raise ModelError(
                    f"{self.name} is loaded without the member for {', '.join(plan.sources)}",
                    "load it with these stems",
                )
        return wanted

    def _prepare(self, member: BagMember) -> engine.EngineMember:
        module = member.module
        if module is None:
            return engine.EngineMember(
                _run_nothing, member.segment_frames, member.input_frames, member.weights
            )
        module.to(self._device).eval().requires_grad_(False)

        def run(batch: NDArray[np.float32], sources: Sequence[int]) -> engine.Answer:
            with torch.inference_mode():
                stems = module(torch.from_numpy(batch).to(self._device))[:, list(sources)]
                return engine.Answer(stems.float().cpu().numpy())

        return engine.EngineMember(run, member.segment_frames, member.input_frames, member.weights)


def _run_nothing(batch: NDArray[np.float32], sources: Sequence[int]) -> engine.Answer:
    raise ModelError("a member that is not loaded was asked to run")
