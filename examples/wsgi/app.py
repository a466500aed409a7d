"""A WSGI app whose answers name the version that they come from.

For gunicorn behind a shared socket: under systemd it takes the listener from LISTEN_FDS and says READY=1. The
default (sync) workers close each connection after its answer, so a stop cuts none that waits for its next request.

The version stands in the file VERSION beside this one. A release whose folder has a file BROKEN can't be imported,
as one that was packed without a module it needs.
"""

import os
from pathlib import Path

HERE = Path(__file__).resolve().parent

if (HERE / "BROKEN").exists():
    raise ImportError((HERE / "BROKEN").read_text().strip())

VERSION = (HERE / "VERSION").read_text().strip()
SLOT = os.environ.get("SLOTD_SLOT", "-")


def app(environ, start_response):
    """Answers `/` and `/health`."""
    if environ["PATH_INFO"] == "/":
        status, body = "200 OK", f"version {VERSION} slot {SLOT} pid {os.getpid()}\n"
    elif environ["PATH_INFO"] == "/health":
        status, body = "200 OK", f"ok version {VERSION}\n"
    else:
        status, body = "404 Not Found", "there is / and /health\n"
    body = body.encode()
    start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))])
    return [body]
