"""Stand-ins that keep a real interface: what is slow, absent or foreign in a test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from stembridge.types import Precision
from stembridge_daemon.worker.separators.base import (
    Block,
    MixtureReader,
    PrecisionChoice,
    SeparationPlan,
)

SOURCES = ("drums", "bass", "other", "vocals")


class FakeSeparator:
    """Seeded stems that nearly sum to the mixture, in steps of ``step_frames``.

    ``estimate`` is the whole of the model: override it to be another one.
    """

    name = "fake"
    channels = 2
    sha256 = "0" * 64
    is_deterministic = True

    def __init__(
        self,
        *,
        sources: tuple[str, ...] = SOURCES,
        sample_rate: int = 44_100,
        step_frames: int = 20_000,
        seed: int = 0,
    ) -> None:
        self.sources = sources
        self.sample_rate = sample_rate
        self.segment_frames = step_frames
        self._seed = seed

    def warm_up(self) -> None:
        """There is nothing to wait for."""

    def choose_precision(self, asked: Precision) -> PrecisionChoice:
        return PrecisionChoice(asked)

    def count_steps(self, frames: Sequence[int], plan: SeparationPlan) -> int:
        return sum(len(self._starts(each, plan)) for each in frames)

    def separate(self, readers: Sequence[MixtureReader], plan: SeparationPlan) -> Iterator[Block]:
        for item, reader in enumerate(readers):
            yield from self._separate_item(item, reader, plan)

    def _separate_item(self, item: int, reader: MixtureReader, plan: SeparationPlan) -> Iterator[Block]:
        chosen = [self.sources.index(source) for source in plan.sources]
        for start in self._starts(reader.frames, plan):
            end = min(start + self.segment_frames, reader.frames + plan.beyond)
            stems = self.estimate(reader.read(start, end - start), start + plan.origin)
            first, end = max(0, start), min(end, reader.frames)
            inside = stems[chosen, :, first - start : end - start]
            yield Block(first, np.ascontiguousarray(inside, dtype=np.float32), item)

    def _starts(self, frames: int, plan: SeparationPlan) -> range:
        """Return where the steps begin that touch the item, counted from its first frame."""
        return range(-(plan.origin % self.segment_frames), frames, self.segment_frames)

    def estimate(self, mixture: NDArray[np.float32], start: int) -> NDArray[np.float32]:
        """Return (sources, channels, frames) for a stretch of the mixture from ``start`` of its grid on."""
        draw = np.random.default_rng((self._seed, start))
        shares = np.linspace(1.0, 2.0, len(self.sources))
        shares /= shares.sum()
        error = 0.01 * draw.standard_normal((len(self.sources), *mixture.shape))
        return np.asarray(shares[:, None, None] * mixture + error, np.float32)


class IdentitySeparator(FakeSeparator):
    """The first source is the mixture, the others are silent."""

    name = "identity"

    def estimate(self, mixture: NDArray[np.float32], start: int) -> NDArray[np.float32]:
        stems = np.zeros((len(self.sources), *mixture.shape), np.float32)
        stems[0] = mixture
        return stems


class ZeroSeparator(FakeSeparator):
    """Finds nothing at all."""

    name = "zero"

    def estimate(self, mixture: NDArray[np.float32], start: int) -> NDArray[np.float32]:
        return np.zeros((len(self.sources), *mixture.shape), np.float32)


class AdversarialSeparator(FakeSeparator):
    """Stems that have nothing to do with the mixture: loud, opposing, denormal.

    ``gain`` is the amplitude of the loudest stems: 4.0 is +12 dBFS.
    """

    name = "adversarial"

    def __init__(self, *, gain: float = 4.0, seed: int = 0, step_frames: int = 20_000) -> None:
        super().__init__(step_frames=step_frames, seed=seed)
        self._gain = gain

    def estimate(self, mixture: NDArray[np.float32], start: int) -> NDArray[np.float32]:
        draw = np.random.default_rng((self._seed, start))
        noise = draw.uniform(-1.0, 1.0, mixture.shape)
        stems = [
            self._gain * noise,
            -self._gain * noise + 0.1,
            draw.uniform(-1e-40, 1e-40, mixture.shape),
            self._gain * draw.uniform(-1.0, 1.0, mixture.shape) * 10.0 ** draw.uniform(-9, 0, mixture.shape),
        ]
        return np.asarray(np.stack(stems), np.float32)
