"""The Hugging Face hub on this machine: its cache's layout made by hand, and a small hub of one repository."""

import asyncio
import hashlib
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

COMMIT = "0123456789abcdef" * 2 + "01234567"


def cached(cache: Path, name: str, files: Path, commit: str = COMMIT, ref: str = "main") -> None:
    """As the hub's client leaves what it fetched: content by its hash, links of a commit's files to it, a ref."""
    folder = cache / f"models--{name.replace('/', '--')}"
    for path in sorted(p for p in files.rglob("*") if p.is_file()):
        blob = folder / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, blob)
        link = folder / "snapshots" / commit / path.relative_to(files)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / ref).write_text(commit)


@dataclass
class Hub:
    """One repository's files, and which of them were fetched. `delay_s`: every answer takes so long."""

    name: str
    files: Path
    url: str = ""
    delay_s: float = 0.0
    fetched: list[str] = field(default_factory=list)

    def info(self, request: Request) -> Response:
        """What `repo_info` asks for."""
        siblings = [{"rfilename": name} for name in self._names()]
        return JSONResponse({"id": self.name, "modelId": self.name, "sha": COMMIT, "siblings": siblings, "tags": []})

    def tree(self, request: Request) -> Response:
        """Every file, as `list_repo_tree` wants it."""
        sizes = {name: (self.files / name).stat().st_size for name in self._names()}
        return JSONResponse(
            [{"type": "file", "path": name, "size": size, "oid": self._etag(name)} for name, size in sizes.items()]
        )

    def file(self, request: Request) -> Response:
        """One file; a GET is a fetch."""
        name = request.path_params["file"]
        if name not in self._names():
            return Response(status_code=404, headers={"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        if request.method == "GET":
            self.fetched.append(name)
        return FileResponse(self.files / name, headers={"X-Repo-Commit": COMMIT, "ETag": f'"{self._etag(name)}"'})

    def _names(self) -> list[str]:
        return sorted(p.relative_to(self.files).as_posix() for p in self.files.rglob("*") if p.is_file())

    def _etag(self, name: str) -> str:
        return hashlib.sha1((self.files / name).read_bytes(), usedforsecurity=False).hexdigest()


@contextmanager
def serve_hub(hub: Hub) -> Iterator[Hub]:
    """The hub on a port of its own."""
    routes = [
        Route(f"/api/models/{hub.name}/revision/main", hub.info),
        Route(f"/api/models/{hub.name}", hub.info),
        Route(f"/api/models/{hub.name}/tree/{COMMIT}", hub.tree),
        *(
            Route(f"/{hub.name}/resolve/{revision}/{{file:path}}", hub.file, methods=["GET", "HEAD"])
            for revision in (COMMIT, "main")
        ),
        Route(f"/api/models/{hub.name}/tree/main/{{below:path}}", hub.tree),
    ]
    app = Starlette(routes=routes)

    async def slowly(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(hub.delay_s if scope["type"] == "http" else 0)
        await app(scope, receive, send)

    config = uvicorn.Config(slowly, "127.0.0.1", 0, log_level="critical", access_log=False)
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not running.started:
        assert thread.is_alive() and time.monotonic() < deadline, "the test hub did not start"
        time.sleep(0.01)
    hub.url = f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield hub
    finally:
        running.should_exit = True
        thread.join(timeout=10)
