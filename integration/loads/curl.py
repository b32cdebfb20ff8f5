"""What curl talks to: files, and an end for uploads."""
import http.server
import os

os.chdir("/tmp")


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Set-Cookie", "a=b")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_PUT = do_POST

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
