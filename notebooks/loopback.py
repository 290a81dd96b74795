"""Servers on this machine that the notebooks talk to: a FHIR bulk export, and a website with a few things wrong.

    with BulkExport() as server: …      server.url, server.token, server.requests
    with Website() as site: …           site.url, site.busiest

They answer on 127.0.0.1 only, from threads of this process.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class Server:
    """Calls `answer` for each request; what it returns is sent.

    Attributes:
        url: Where it is, without a slash at the end.
        requests: How often each path was asked for.
    """

    def __init__(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer._serve(self)

            def log_message(self, *_: object) -> None:
                """Nothing is printed under a cell."""

        class Http(ThreadingHTTPServer):
            request_queue_size = 100  # clients that come at once are not turned away

            def handle_error(self, *_: object) -> None:
                """A client that does not wait for its answer is no error of ours."""

        self._http = Http(("127.0.0.1", 0), Handler)
        self._lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self.requests: Counter[str] = Counter()

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Answer no more."""
        self._http.shutdown()
        self._http.server_close()

    def answer(self, path: str, asked: int, token: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer; ``asked`` counts from 1 for each path."""
        raise NotImplementedError

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        with self._lock:
            self.requests[request.path] += 1
            asked = self.requests[request.path]
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        status, headers, body = self.answer(request.path, asked, token)
        request.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)


class BulkExport(Server):
    """Exports a handful of resources as FHIR's bulk data access says: 202 while it prepares, then a manifest, then NDJSON.

    The first request for each fourth file is answered 429.

    Attributes:
        token: What requests must carry; `renew` makes another one.
        polls: How often the status is "not yet".
    """

    def __init__(self, files: int = 12, polls: int = 2) -> None:
        super().__init__()
        self.files, self.polls, self.token = files, polls, "token-1"

    def renew(self) -> None:
        """As if the token had run out."""
        self.token = f"token-{int(self.token.removeprefix('token-')) + 1}"

    def answer(self, path: str, asked: int, token: str) -> tuple[int, dict[str, str], bytes]:
        """As the class says."""
        if token != self.token:
            return 401, {}, b""
        if path == "/fhir/$export":
            return 202, {"Content-Location": f"{self.url}/status/1"}, b""
        if path == "/status/1":
            return self._status(asked)
        number = int(path.rpartition("/")[2])
        if number % 4 == 0 and asked == 1:
            return 429, {"Retry-After": "1"}, b""
        return 200, {"Content-Type": "application/fhir+ndjson"}, self._resources(number)

    def _status(self, asked: int) -> tuple[int, dict[str, str], bytes]:
        if asked <= self.polls:
            return 202, {"Retry-After": "1", "X-Progress": f"{asked} of {self.polls + 1} parts"}, b""
        output = [{"type": self._kind(each), "url": f"{self.url}/file/{each}"} for each in range(self.files)]
        return 200, {}, json.dumps({"output": output}).encode()

    def _kind(self, number: int) -> str:
        return ("Patient", "Observation", "Encounter")[number % 3]

    def _resources(self, number: int) -> bytes:
        lines = [{"resourceType": self._kind(number), "id": f"{number}-{each}"} for each in range(50)]
        return "".join(f"{json.dumps(line)}\n" for line in lines).encode()


class Website(Server):
    """Pages that take 50 ms each and link to one another.

    Every 40th page is gone (404), every 30th fails at the first request (500), and page 77 does not answer at all.

    Attributes:
        busiest: The most requests that were there at once.
    """

    def __init__(self, pages: int = 200) -> None:
        super().__init__()
        self.pages, self.busiest, self._there = pages, 0, 0
        self._closed = threading.Event()

    def close(self) -> None:
        """Answer no more, whoever waits for page 77 either."""
        self._closed.set()
        super().close()

    def answer(self, path: str, asked: int, token: str) -> tuple[int, dict[str, str], bytes]:  # noqa: ARG002 - nobody logs in
        """As the class says."""
        if path == "/sitemap.txt":
            return 200, {}, "".join(f"{self.url}/page/{each}\n" for each in range(self.pages)).encode()
        number = int(path.rpartition("/")[2])
        with self._counted():
            self._closed.wait(None if number == 77 else 0.05)
        if number % 40 == 39:
            return 404, {}, b""
        if number % 30 == 0 and asked == 1:
            return 500, {}, b""
        links = "".join(
            f'<a href="/page/{each}">{each}</a>' for each in ((number + 1) % self.pages, number * 2 % self.pages)
        )
        return 200, {"Content-Type": "text/html"}, f"<title>Page {number}</title>{links}".encode()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            self._there += 1
            self.busiest = max(self.busiest, self._there)
        try:
            yield
        finally:
            with self._lock:
                self._there -= 1
