"""nats-server from Debian: request and reply through it, one at a time, by a client and a responder of a few lines, each
with a thread of its own; and what it needs while idle."""

import socket
import threading
import time
from pathlib import Path

from place import Skipped, connects, free_port, middle, quantile, rss_mib, until

PROGRAMS = ("/usr/sbin/nats-server", "/usr/bin/nats-server")


class Client:
    """Just enough of the protocol."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.lines = self.socket.makefile("rb")
        self.lines.readline()
        self.say(b'CONNECT {"verbose":false,"pedantic":false}\r\n')

    def say(self, data):
        self.socket.sendall(data)

    def message(self):
        """The next message: subject to answer to, and payload."""
        while True:
            words = self.lines.readline().split()
            if not words:
                raise ConnectionError("closed")
            if words[0] == b"PING":
                self.say(b"PONG\r\n")
            elif words[0] == b"MSG":
                payload = self.lines.read(int(words[-1]) + 2)[:-2]
                return (words[3] if len(words) == 5 else None), payload


def measure(place):
    program = next((path for path in PROGRAMS if Path(path).is_file()), None)
    if program is None:
        raise Skipped("no nats-server here: apt-get install nats-server")
    port = free_port()
    server = place.start([program, "-a", "127.0.0.1", "-p", port], "nats.log")
    until(lambda: connects(port), 20, "nats-server listens")
    version = place.run([program, "--version"]).split(":")[-1].strip()

    responder = Client(port)
    responder.say(b"SUB work 1\r\nPING\r\n")

    def respond():
        try:
            while True:
                reply, payload = responder.message()
                responder.say(b"PUB %s %d\r\n%s\r\n" % (reply, len(payload), payload))
        except (OSError, ValueError):
            return

    threading.Thread(target=respond, daemon=True).start()
    client = Client(port)
    client.say(b"SUB answers 2\r\n")
    request = b"PUB work answers 150\r\n" + b"x" * 150 + b"\r\n"
    took, end = [], time.monotonic() + (3 if place.quick else 10)
    while time.monotonic() < end:
        began = time.monotonic()
        client.say(request)
        client.message()
        took.append(time.monotonic() - began)
    took = took[len(took) // 10:]
    rss = rss_mib(server)
    responder.socket.close()
    return version, {
        "request_p50_ms": (middle(took) * 1e3, "ms"),
        "request_p99_ms": (quantile(took, 0.99) * 1e3, "ms"),
        "requests_one_at_a_time_per_s": (len(took) / sum(took), "/s"),
        "rss_mib": (rss, "MiB"),
    }
