"""What a file of a set carries beside its samples: chunks and texts of the source, and the set's own tag."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from stembridge import __version__, audio_io, metadata
from stembridge.channel_layout import conventional_mask
from stembridge.stem_tag import CHUNK_NAME, StemTag
from stembridge.types import FileFormat
from stembridge.wavfile import Chunk


@dataclass(frozen=True, slots=True)
class Carried:
    """What a source carries beside its samples: RIFF chunks, and texts by libsndfile's names."""

    chunks: metadata.Metadata
    tags: Mapping[str, str]

    @property
    def has_text_chunk(self) -> bool:
        return any(map(_is_text_chunk, self.chunks.chunks))


def read_carried(path: str) -> Carried:
    """Return what the file at ``path`` carries.

    Raises
    ------
    SourceError : unreadable, or no audio
    """
    return Carried(metadata.read_chunks(path), audio_io.read_tags(path))


def without_stem(carried: Carried, stem: str) -> Carried:
    """Return what the file of one stem carries as its source had it: without the stem in the title."""
    tags = dict(carried.tags)
    if "title" in tags:
        tags["title"] = tags["title"].removesuffix(f" - {stem}")
    return Carried(metadata.without_stem(carried.chunks, stem), tags)


def tags_of(tags: Mapping[str, str], stem: str) -> dict[str, str]:
    """Return the texts that one stem's file carries: the source's, with the stem in the title."""
    tags = dict(tags)
    if tags.get("title"):
        tags["title"] += f" - {stem}"
    return tags


def choose_chunks(
    carried: Carried,
    file_format: FileFormat,
    tag: StemTag,
    *,
    region_start: int,
    frames: int,
    channels: int,
    channel_mask: int,
) -> tuple[tuple[Chunk, ...], tuple[str, ...]]:
    """Return the chunks of one stem's file, and what a user should know of what it does not carry.

    Parameters
    ----------
    tag : says which stem it is, at which rate
    region_start, frames : the region that the stem covers, in frames of the file that was read
    """
    if file_format.container != "WAV":
        return (), tuple(_find_losses(carried, file_format.container, channels, channel_mask))
    chunks, remarks = metadata.carry(
        carried.chunks,
        region_start=region_start,
        frames=frames,
        stem=tag.stem,
        sample_rate=tag.rate,
        channels=channels,
        subtype=file_format.subtype,
        version=__version__,
    )
    if carried.tags and not carried.has_text_chunk:
        chunks = (*chunks, metadata.info_chunk(carried.tags, tag.stem, __version__))
    # First, where it is found at once however many chunks the source has.
    return (Chunk(CHUNK_NAME, tag.encode()), *chunks), remarks


def _is_text_chunk(chunk: Chunk) -> bool:
    return chunk.name == b"LIST" and chunk.data[:4] == b"INFO"


def _find_losses(carried: Carried, container: str, channels: int, channel_mask: int) -> Iterator[str]:
    """Yield what files that are no WAV leave out, one line each."""
    names = dict.fromkeys(
        chunk.name.decode("latin-1").strip() for chunk in carried.chunks.chunks if not _is_text_chunk(chunk)
    )
    if names:
        yield f"{container} files carry texts alone: {', '.join(names)} of the source is left out"
    if channels > 2 and channel_mask != conventional_mask(channels):
        yield f"{container} files cannot say that the speakers of this source are not the usual ones"
