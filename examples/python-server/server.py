#!/usr/bin/env python3
"""A small HTTP server that loses no request when another version takes its place, of the standard library alone.

What it does for that is what examples/sample-server does; its comments say why.

| it is told by | and does |
|---|---|
| LISTEN_FDS | takes connections from the listener that systemd holds, for all slots at once |
| PORT | without LISTEN_FDS: listens on that port of all addresses |
| HEALTH_SOCKET | answers there as well, whether it is quiet or not |
| SLOTD_ACCEPT | "signal": starts quiet; "now", or nothing: takes connections at once |
| SIGUSR1, SIGUSR2 | takes connections; takes no more, and finishes what it has |
| SIGTERM | takes no more, has each open connection answer once more, and ends |
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys

# The first descriptor that systemd hands over: sd_listen_fds(3).
LISTEN_FDS_START = 3

# How long a stop waits for the next request of connections that idle, before it closes them unasked.
LINGER_SECONDS = 0.5

# After an accept that failed.
PAUSE_SECONDS = 0.1

# How long a client that was told to close may take to do so. Closed while something it sent is unread, the connection
# would be reset, and the last answer could be lost with it.
GOODBYE_SECONDS = 2


class Server:
    """Connections from accept to close."""

    def __init__(self, version):
        self.version = version
        self.leaving = False  # each answer is its connection's last
        self.open = set()  # the tasks of open connections
        self.idle = set()  # those of their writers that wait for a request

    async def serve(self, reader, writer):
        """Answers the requests of one connection."""
        task = asyncio.current_task()
        self.open.add(task)
        # What a client breaks off, it breaks off.
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            stays = True
            while stays:
                self.idle.add(writer)
                first = await reader.read(1)
                self.idle.discard(writer)
                if not first:
                    break
                head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                request, *lines = head.split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
                await reader.readexactly(int(headers.get("content-length", 0)))
                status, text = self.answer(request)
                # Asked when the answer is ready, not when the request came: a stop in between counts.
                stays = not self.leaving and headers.get("connection") != "close"
                writer.write(self.encode(status, text, stays))
                await writer.drain()
            else:
                await goodbye(reader, writer)
        self.idle.discard(writer)
        writer.close()
        self.open.discard(task)

    def answer(self, request):
        """Status and text, by the first line of a request."""
        match request.split(" ")[1:2]:
            case ["/"]:
                slot = os.environ.get("SLOTD_SLOT", "-")
                return "200 OK", f"version {self.version} slot {slot} pid {os.getpid()}\n"
            case ["/health"]:
                return "200 OK", f"ok version {self.version}\n"
        return "404 Not Found", "there is / and /health\n"

    def encode(self, status, text, stays):
        """An answer as bytes."""
        connection = "" if stays else "connection: close\r\n"
        head = f"HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\nx-version: {self.version}\r\n"
        return f"{head}content-length: {len(text)}\r\n{connection}\r\n{text}".encode()

    async def finish(self):
        """Has all connections end: who asks once more is answered; who idles on is closed."""
        self.leaving = True
        if self.open:
            await asyncio.wait(self.open, timeout=LINGER_SECONDS)
        for writer in self.idle:
            writer.close()
        if self.open:
            # What takes longer than TimeoutStopSec= is cut by systemd; there is no second limit here.
            await asyncio.wait(self.open)


class Door:
    """The listener, and whether connections are taken from it.

    Not asyncio.start_server(): it calls listen() anew, which changes the backlog for all who share the listener, and
    what it has accepted at the moment of its close() is lost.
    """

    def __init__(self, server):
        self.server = server
        self.loop = asyncio.get_running_loop()
        self.listener = handed_over()
        self.is_own = self.listener is None
        if self.is_own:
            self.listener = bound(int(os.environ["PORT"]))
        # It belongs to all who share the listener: who comes second finds nothing there, and must not wait.
        self.listener.setblocking(False)
        self.is_open = False

    def open(self):
        """Takes connections."""
        self.is_open = True
        self.loop.add_reader(self.listener, self.take)

    def close(self):
        """Takes no more. They wait in the listener."""
        self.is_open = False
        self.loop.remove_reader(self.listener)

    def leave(self):
        """Takes no more, for good. What waits in a port of our own would be reset, so that is taken first."""
        self.close()
        if self.is_own:
            self.take(at_most=sys.maxsize)
        self.listener.close()

    def take(self, at_most=64):
        """Takes what waits, and after so many sees to the open connections."""
        for _ in range(at_most):
            try:
                client, _ = self.listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                print(f"can't accept a connection: {error}", file=sys.stderr)
                # Descriptors or memory, which only time brings back.
                self.loop.remove_reader(self.listener)
                self.loop.call_later(PAUSE_SECONDS, lambda: self.is_open and self.open())
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.server.open.add(self.loop.create_task(self.serve(client)))

    async def serve(self, client):
        """Serves a connection."""
        await self.server.serve(*await asyncio.open_connection(sock=client))


async def goodbye(reader, writer):
    """Ends a connection so that the client gets all that was sent: it closes first, or had its time."""
    writer.write_eof()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GOODBYE_SECONDS):
            while await reader.read(65536):
                pass


def handed_over():
    """The listener from systemd; None where there is none, or it is meant for another process."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS", "0") == "0":
        return None
    return socket.socket(fileno=LISTEN_FDS_START)


def bound(port):
    """A listener on all addresses: where the public port is redirected to it, a connection keeps its address."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=4096)
    return socket.create_server(("", port), backlog=4096)


def notify(*lines):
    """Tells systemd: sd_notify(3)."""
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto("\n".join(lines).encode(), path.replace("@", "\0", 1) if path[0] == "@" else path)


def release():
    """The version: of the file VERSION, being what was packed; else of slotd."""
    with contextlib.suppress(FileNotFoundError), open("VERSION", encoding="utf-8") as file:
        return file.read().strip()
    return os.environ["SLOTD_VERSION"]


async def main():
    """Serves until SIGTERM."""
    # Before READY=1: without a handler each of them ends the process.
    orders = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        asyncio.get_running_loop().add_signal_handler(number, orders.put_nowait, number)

    server = Server(release())
    door = Door(server)
    health = os.environ.get("HEALTH_SOCKET")
    if health:
        await asyncio.start_unix_server(server.serve, health)
    accepts = os.environ.get("SLOTD_ACCEPT", "now") != "signal"
    if accepts:
        door.open()
    # In one message: slotd signals nobody who hasn't said whether it accepts.
    notify("READY=1", "STATUS=accepting" if accepts else "STATUS=quiet")

    while (order := await orders.get()) != signal.SIGTERM:
        if order == signal.SIGUSR1:
            server.leaving = False
            door.open()
            notify("STATUS=accepting")
        else:
            door.close()
            server.leaving = True
            notify("STATUS=quiet")

    notify("STOPPING=1")
    door.leave()
    await server.finish()
    if health:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(health)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
