"""The pages of consoles: two small ones of ours around noVNC and xterm.js, which `make setup` puts below `static/vendor`."""

from pathlib import Path
from string import Template
from typing import Any
from xml.sax.saxutils import escape

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

STATIC = Path(__file__).parent / "static"
TITLES = {"novnc": "noVNC", "serial": "Serial console"}
HEADERS = {
    "Cache-Control": "no-store",  # its address is a secret for a while
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # Styles in the page are xterm.js's, pictures in it noVNC's cursors.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; font-src 'self';"
    " img-src 'self' data: blob:; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'",
}


def page(console_type: str, found: Any) -> Response:
    """`found`: the token's row, with its server's name and vm_state."""
    if not (STATIC / "vendor").is_dir():
        return sorry("This cloud was installed without noVNC and xterm.js: `make setup` fetches them.", 503)
    server, state = found["name"], found["vm_state"].upper()
    return _render(f"{console_type}.html", 200, title=TITLES[console_type], server=server, state=state)


def sorry(sentence: str, status: int) -> Response:
    return _render("sorry.html", status, sentence=sentence)


def _render(name: str, status: int, **values: str) -> Response:
    escaped = {key: escape(value, {'"': "&quot;"}) for key, value in values.items()}
    text = Template((STATIC / name).read_text()).substitute(escaped)
    return Response(text, status, HEADERS, "text/html")


async def static(path: str, request: Request) -> Response:
    """One of the pages' files; no page itself, which is only whole with a server in it."""
    from starlette.staticfiles import StaticFiles

    try:
        if path.endswith(".html"):
            raise HTTPException(404)
        answer = await StaticFiles(directory=STATIC).get_response(path, request.scope)
    except HTTPException as error:
        return Response("", error.status_code)
    answer.headers["Cache-Control"] = "no-cache"
    answer.headers["X-Content-Type-Options"] = "nosniff"
    return answer
