"""The page: static files that load nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse

__all__ = ["PATHS", "router"]

_FOLDER = Path(__file__).parent / "static"
_HEADERS = {"Cache-Control": "no-cache"}  # a newer version of leanrag has other files

_TYPES = {"page.html": "text/html", "page.js": "text/javascript", "page.css": "text/css", "page.svg": "image/svg+xml"}

PATHS = ("/", *(f"/{name}" for name in _TYPES))

router = APIRouter(include_in_schema=False)


def _add_file(path: str, name: str) -> None:
    async def get_file() -> FileResponse:
        return FileResponse(_FOLDER / name, media_type=_TYPES[name], headers=_HEADERS)

    router.add_api_route(path, get_file, methods=["GET"])


_add_file("/", "page.html")
for _name in _TYPES:
    _add_file(f"/{_name}", _name)
