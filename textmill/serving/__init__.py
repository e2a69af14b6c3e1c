"""The service: a resident model behind HTTP.

settings.py     what the service is told
engine.py       continuous batching: one thread, one model, pools of slots
orders.py       what is asked of the engine, and what it tells
token_log.py    the tokens of a text with their log probabilities
inbox.py        from the engine's thread to the loop: events, streams, clients that go away
parameters.py   what a request may say, checked; the same tables make the OpenAPI document
service.py      what all ways in share: the engine, requests turned into orders, limits
completions.py kserve.py sample_api.py   the ways in: OpenAI's, KServe's, S5's
guards.py connections.py                 limits around every request and every connection
metrics.py openapi.py answers.py         figures for Prometheus, the document, how answers and errors look
app.py server.py                         the routes; the process: address, signals, draining
page/           the web page, served at /
"""
