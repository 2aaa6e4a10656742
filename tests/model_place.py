"""A server on loopback in the place of those that hand out models."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from stembridge.model_store import Origins

CONTENT = bytes(range(256)) * 12_000
HUB_PATH = "/hub/HTDemucs/resolve/main/955717e8.safetensors"


@dataclass
class Place:
    """What the loopback server holds and how it behaves; ``asked`` collects method, path and Range."""

    files: dict[str, bytes] = field(default_factory=dict)
    etag: str = '"one"'
    status: int = 0
    honours_range: bool = True
    breaks_after: int | None = None
    linked_sha256: str = ""
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    origin: str = ""

    @property
    def origins(self) -> Origins:
        return Origins(f"{self.origin}/hub", f"{self.origin}/legacy", f"{self.origin}/torchaudio")


class Handler(BaseHTTPRequestHandler):
    place: Place

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        place = self.place
        wanted = self.headers.get("Range", "")
        place.asked.append((self.command, self.path, wanted))
        if self.path.startswith("/hub/") and place.linked_sha256:
            self.send_response(302)
            self.send_header("Location", f"/cdn{self.path}")
            self.send_header("X-Linked-ETag", f'"{place.linked_sha256}"')
            self.end_headers()
            return
        content = place.files.get(self.path.removeprefix("/cdn"))
        if place.status or content is None:
            self.send_error(place.status or 404)
            return
        start, status = 0, 200
        told = re.fullmatch(r"bytes=(\d+)-", wanted)
        if told and place.honours_range and self.headers.get("If-Range") == place.etag:
            start, status = int(told.group(1)), 206
            if start >= len(content):
                self.send_error(416)
                return
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("ETag", place.etag)
        self.send_header("Last-Modified", formatdate(0, usegmt=True))
        self.end_headers()
        if self.command == "GET":
            end = len(content) if place.breaks_after is None else start + place.breaks_after
            self.wfile.write(content[start:end])

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def serve_models() -> Iterator[Place]:
    """Serve `CONTENT` as htdemucs on the hub; what the `Place` holds can be changed on the way."""
    held = Place({HUB_PATH: CONTENT})
    handler = type("HeldHandler", (Handler,), {"place": held})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        held.origin = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield held
        finally:
            server.shutdown()
            thread.join()
