"""A local HTTP server that serves files as a publisher does, and fails where it is told to."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Publisher:
    """What is served, how it fails, and what was asked for.

    Attributes:
        files: path -> content.
        cuts: path -> after how many bytes of each of the next answers the connection is closed.
        statuses: path -> status of the next answers.
        ranges: the server knows the Range header.
        tag: sent as ETag, and compared with If-Range.
        asked: (path, Range header or "") of each request.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    ranges: bool = True
    tag: str = '"first"'
    asked: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(publisher: Publisher) -> Iterator[Publisher]:
    """Serve on 127.0.0.1 while the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format, *args):
            pass

        def do_GET(self):
            wanted = self.headers.get("Range", "")
            publisher.asked.append((self.path, wanted))
            statuses = publisher.statuses.get(self.path, [])
            status = statuses.pop(0) if statuses else 200 if self.path in publisher.files else 404
            if status != 200:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = publisher.files[self.path]
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and publisher.ranges else 0
            if self.headers.get("If-Range", publisher.tag) != publisher.tag:
                start = 0
            if start >= len(content) and start:
                self.send_response(416)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("ETag", publisher.tag)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            cuts = publisher.cuts.get(self.path, [])
            end = start + cuts.pop(0) if cuts else len(content)
            self.wfile.write(content[start:end])  # HTTP/1.0: the connection is closed after it

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    publisher.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield publisher
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
