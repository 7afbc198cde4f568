"""The proxy's page: what was proved, what was not, each hop and the last receipts, in plain words (docs/proxy.md).

Static files and one JSON status, for the browser of whoever runs the proxy. It decides nothing, sends nothing and holds
nothing; no other site's page can read it or be part of it.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

__all__ = ["HEADERS", "page_app"]

Status = Mapping[str, object]

HEADERS: Mapping[str, str] = {
    # Nothing but these files, and no string ever becomes markup: a receipt's text is somebody else's.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    # A state that has passed must not come back out of a cache.
    "Cache-Control": "no-store",
}
_FILES = {
    "": ("index.html", "text/html; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
    "render.js": ("render.js", "text/javascript; charset=utf-8"),
    "words.js": ("words.js", "text/javascript; charset=utf-8"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}


def page_app(status: Callable[[], Status], receipt: Callable[[str], bytes | None] | None = None) -> Starlette:
    """To be mounted at `/anchorhold`: the page, `status`, and `receipts/ID` where `receipt` finds their files.

    `status()` is as docs/schema/status.schema.json has it. It and `receipt` are called in the event loop and must not
    wait. Host, Origin and keys are the business of the application that mounts this.
    """

    async def told(_: Request) -> Response:
        raw = json.dumps(status(), ensure_ascii=False, allow_nan=False).encode()
        return Response(raw, media_type="application/json", headers=HEADERS)

    async def saved(request: Request) -> Response:
        found = None if receipt is None else receipt(request.path_params["named"])
        if found is None:
            return Response("no such receipt is kept\n", 404, HEADERS, "text/plain")
        headers = {**HEADERS, "Content-Disposition": 'attachment; filename="receipt.cbor"'}
        return Response(found, media_type="application/cbor", headers=headers)

    routes = [Route(f"/{path}", _served(name, kind)) for path, (name, kind) in _FILES.items()]
    return Starlette(routes=[*routes, Route("/status", told), Route("/receipts/{named}", saved)])


def _served(name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    body = (files(__package__) / name).read_bytes()

    async def serve(_: Request) -> Response:
        return Response(body, headers={**HEADERS, "Content-Type": kind})

    return serve
