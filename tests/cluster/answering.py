"""What asks a service without a pause, in a pod: python3 -c <this> HOST. Prints how it went when /tmp/stop is there.

Three kinds of clients, none of which tries again: connections that are kept, a new connection for each request, and
streams that take some seconds.
"""

import collections
import http.client
import json
import os
import sys
import threading
import time

HOST = sys.argv[1]
SHORT = {"prompt": "the", "max_tokens": 8, "seed": 1}
LONG = {"prompt": "and", "max_tokens": 2000, "seed": 2, "stop_at_end": False, "stream": True}
found: collections.Counter = collections.Counter()
lock = threading.Lock()


def asked(kind, connection, body):
    """Ask once; how it ended."""
    try:
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        data = answer.read().decode()
        if answer.status != 200:
            return f"{answer.status} {data[:200]}"
        if body.get("stream"):
            events = [json.loads(line[6:]) for line in data.split("\n\n") if line[:7] == "data: {"]
            whole = data.endswith("data: [DONE]\n\n") and events[-1]["choices"][0]["ended_by"] == "length"
            return "whole" if whole else f"cut {data[-300:]}"
        return json.loads(data)["system_fingerprint"]
    except Exception as error:
        return f"{type(error).__name__} {error}"


def client(kind, body, keep):
    connection = http.client.HTTPConnection(HOST, timeout=120)
    while not os.path.exists("/tmp/stop"):
        how = asked(kind, connection, body)
        with lock:
            found[f"{kind}: {how}"] += 1
        if not keep or not how.startswith(("textmill-", "whole")):
            connection.close()
            connection = http.client.HTTPConnection(HOST, timeout=120)
        time.sleep(0.02)


kinds = [("kept", SHORT, True), ("kept", SHORT, True), ("new", SHORT, False), ("stream", LONG, False)]
threads = [threading.Thread(target=client, args=each) for each in kinds]
for thread in threads:
    thread.start()
while any(thread.is_alive() for thread in threads):
    time.sleep(1)
    with lock:
        print(json.dumps(found), flush=True)
