"""A local server that answers chat completions by a script, and keeps what it was asked."""

import contextlib
import http.server
import json
import threading


@contextlib.contextmanager
def chat_server(reply, *, models=None):
    """Serve; `reply(number, body)` gives what is said.

    That is a text; (status, text) or (status, text, headers) for an error; or a dictionary that is
    the answer. `models` is what the server lists, None for no such path.

    Yields:
        the base URL and the list of requests: (headers, body).
    """
    asked = []
    lock = threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            length = int(self.headers["Content-Length"])
            body = json.loads(self.rfile.read(length))
            with lock:
                number = len(asked)
                asked.append((dict(self.headers), body))
            said = reply(number, body)
            status, text, *more = said if isinstance(said, tuple) else (200, said)
            document = text if isinstance(text, dict) else _completion(text)
            self._send(status, document if status == 200 else {"error": text}, *more)

        def do_GET(self):
            if models is None or not self.path.endswith("/models"):
                self._send(404, {"error": "none"})
            else:
                self._send(200, {"object": "list", "data": models})

        def _send(self, status, document, headers=()):
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            for name, value in dict(headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _completion(text):
    return {"choices": [{"message": {"role": "assistant", "content": text}}]}
