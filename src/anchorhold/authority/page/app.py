"""The page on loopback, for the browser of whoever has an operator's token. It asks the authorities, no more.

A web page elsewhere can make a browser send requests to loopback and, by DNS rebinding, make them look like its own:
the Host header must be an address this server listens on. There is no other route, no form, no script and no cookie.
"""

from collections.abc import Callable, Sequence
from importlib.resources import files

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from anchorhold.authority.page.render import render
from anchorhold.authority.page.snapshot import Snapshot

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def page_app(faces: Sequence[Callable[[], Snapshot]], hosts: Sequence[str]) -> Starlette:
    """`hosts` are the values of Host that are this server's own, lower case."""
    own = frozenset(hosts)
    style = (files(__package__) / "page.css").read_bytes()

    async def page(request: Request) -> Response:
        if not _ours(request, own):
            return _refused()
        html = await run_in_threadpool(lambda: render([face() for face in faces]))
        return Response(html, headers=HEADERS, media_type="text/html")

    async def css(request: Request) -> Response:
        return Response(style, headers=HEADERS, media_type="text/css") if _ours(request, own) else _refused()

    return Starlette(routes=[Route("/", page), Route("/page.css", css)])


def _ours(request: Request, own: frozenset[str]) -> bool:
    named = request.headers.getlist("host")
    site = request.headers.get("sec-fetch-site", "none")
    return len(named) == 1 and named[0].lower() in own and site in ("none", "same-origin")


def _refused() -> Response:
    return Response("expected this page's own address, asked for by nobody else's page\n", 403, HEADERS, "text/plain")
