"""A page in one color, on port 8080. The image sets the color."""

import html
import os
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COLOR = os.environ.get("COLOR", "blue")
FAILING = bool(os.environ.get("FAILING"))
PAGE = """\
<!doctype html>
<html lang="en">
<title>Shop: {color}</title>
<meta http-equiv="refresh" content="2">
<body style="margin: 0; background: {color}; color: white; font: 20vmin sans-serif; text-align: center">
<p>{color}</p>
</body>
</html>
"""


class Page(BaseHTTPRequestHandler):
    """Answers /health for the load balancer, and every other path with the page."""

    def do_GET(self) -> None:
        if self.path == "/health":
            self.answer(HTTPStatus.OK, "text/plain", "healthy\n")
        elif FAILING:
            self.answer(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", "This version fails.\n")
        else:
            self.answer(HTTPStatus.OK, "text/html", PAGE.format(color=html.escape(COLOR)))

    def answer(self, status: HTTPStatus, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    # The address is for tests: a container listens on every address of its own network interface.
    address = sys.argv[1] if len(sys.argv) > 1 else "0.0.0.0:8080"
    host, _, port = address.rpartition(":")
    with ThreadingHTTPServer((host, int(port)), Page) as server:
        print(f"A {COLOR} page on port {server.server_port}", flush=True)
        server.serve_forever()
