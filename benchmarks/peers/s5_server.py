"""The service before this one, rebuilt: Flask and gpt-2-simple, the graph and the model made anew for each request.

python benchmarks/peers/s5_server.py PORT LENGTH      (in a folder that has checkpoint/run1)

As it ran: five processes behind one socket, each answering one request at a time, GET /?sample=…&callback=…, the text
cut after its last full stop.
"""

from __future__ import annotations

import gc
import os
import socket
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

PROCESSES = 5
DEFAULT = "Pikachu and Ash were"


def serve_one(listener: socket.socket, length: int) -> None:
    """One process: answers one request at a time until it is killed."""
    import flask
    import flask_cors
    import gpt_2_simple as gpt2
    import tensorflow as tf
    from werkzeug.serving import make_server

    app = flask.Flask(__name__)
    flask_cors.CORS(app)

    @app.get("/")
    def sample() -> str:
        prefix = flask.request.args.get("sample") or DEFAULT
        tf.compat.v1.reset_default_graph()
        session = gpt2.start_tf_sess()
        gpt2.load_gpt2(session)
        text = gpt2.generate(session, length=length, temperature=0.7, prefix=prefix, return_as_list=True)[0]
        session.close()
        gc.collect()
        cut = text[: text.rfind(".") + 1]
        return f"{flask.request.args.get('callback')}({ ({'sample_text': cut or '.'}) })"

    host, port = listener.getsockname()
    make_server(host, port, app, fd=os.dup(listener.fileno())).serve_forever()


def main() -> None:
    port, length = int(sys.argv[1]), int(sys.argv[2])
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(128)
    children = []
    for _ in range(PROCESSES):
        if not (child := os.fork()):
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115
            serve_one(listener, length)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
