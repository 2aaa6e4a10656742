"""A segment's spectrogram and back, as HTDemucs frames it (``_spec`` and ``_ispec``, demucs 4.1.0).

What those take from ``torch.stft`` comes to this: frame j covers the 4 hops that begin 1.5 hops before sample
j * hop, the segment is mirrored at its ends, the window is Hann's, the highest bin is left out; on the way
back the squared windows of four frames, the silent ones beyond the ends included, sum to 1.5 everywhere.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_WINDOWS_OVERLAP = 4
_WINDOWS_SUM = 1.5
"""Sum of squares of Hann windows a quarter apart."""


class Spectrum:
    """Transforms of segments of one length.

    Parameters
    ----------
    bins : half of the transform's length
    hop : frames between two columns, a quarter of the transform's length
    frames : length of a segment
    """

    def __init__(self, *, bins: int, hop: int, frames: int, device: torch.device) -> None:
        self.bins = bins
        self.columns = math.ceil(frames / hop)
        self._hop = hop
        self._frames = frames
        self._before = hop // 2 * 3
        window = torch.hann_window(2 * bins, dtype=torch.float64)
        scale = math.sqrt(2 * bins)
        self._window = (window / scale).float().to(device)
        self._window_back = (window * scale / _WINDOWS_SUM).float().to(device)
        ones = torch.ones(1, bins, self.columns, 1, dtype=torch.complex64, device=device) * (1 + 1j)
        self._of_ones = self._restore(ones)

    def take(self, mixture: Tensor) -> Tensor:
        """Return (batch, bins, columns, channels) complex64 of (batch, channels, frames)."""
        after = self._before + self.columns * self._hop - self._frames
        padded = F.pad(mixture, (self._before, after), mode="reflect")
        framed = padded.unfold(-1, 2 * self.bins, self._hop)[:, :, : self.columns]
        spectrum: Tensor = torch.fft.rfft(framed * self._window)[..., :-1]
        return spectrum.permute(0, 3, 2, 1).contiguous()

    def restore(self, spectrum: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        """Return (batch, channels, frames) of a spectrum times ``scale`` and with ``offset`` added.

        Parameters
        ----------
        spectrum : (batch, bins, columns, channels) complex64
        scale, offset : (batch, 1, 1), real; the offset counts for real and imaginary parts alike
        """
        return torch.addcmul(offset * self._of_ones, self._restore(spectrum), scale)

    def _restore(self, spectrum: Tensor) -> Tensor:
        batch, bins, columns, channels = spectrum.shape
        lines = spectrum.new_empty(batch, columns * channels, bins)
        # A matrix torch transposes in blocks that fit the cache; axes of more it swaps ten times as slowly.
        for line, source in zip(lines, spectrum, strict=True):
            line.copy_(source.flatten(1).T)
        framed = torch.fft.irfft(F.pad(lines, (0, 1)), n=2 * bins) * self._window_back
        parts = framed.view(batch, columns, channels, _WINDOWS_OVERLAP, self._hop)
        out = parts.new_zeros(batch, columns + _WINDOWS_OVERLAP - 1, channels, self._hop)
        for part in range(_WINDOWS_OVERLAP):
            out[:, part : part + columns] += parts[:, :, :, part]
        whole: Tensor = out.transpose(1, 2).reshape(batch, channels, -1)
        return whole[..., self._before : self._before + self._frames]
