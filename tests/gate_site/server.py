"""A slot of the gate's tests: answers its version on the listener it inherits, or does what `mode` in its tree says."""

import os
import signal
import socket
import sys


def tell(state):
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect("\0" + address[1:] if address[0] == "@" else address)
            sock.send(state)


def read(name):
    with open(os.path.join("/srv/web", name)) as file:
        return file.read().strip()


def main():
    version, mode = read("version"), read("mode")
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1) or sys.exit(0))
    signal.signal(signal.SIGHUP, lambda *_: print("reloaded", flush=True))
    if mode == "broken":
        print("broken: exits before it is ready", flush=True)
        sys.exit(3)
    tell(b"READY=1")
    if not os.environ.get("LISTEN_FDS"):
        signal.pause()
    listener = socket.socket(fileno=3)
    body = version.encode() + b"\n"
    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    while True:
        connection, _ = listener.accept()
        with connection:
            # What has been accepted is answered, whatever comes.
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
            connection.recv(65536)
            connection.sendall(answer)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


main()
