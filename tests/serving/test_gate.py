"""What the gate does with a body that never ends: the total time counts, not that between two pieces."""

import asyncio

import pytest

from optimum_pixart_neuron.serving.server import gate

pytestmark = pytest.mark.seconds


def test_a_client_that_sends_drop_by_drop_is_refused(monkeypatch):
    monkeypatch.setattr(gate, "_BODY_TIMEOUT_S", 0.05)
    monkeypatch.setattr(gate, "_DISCARD_TIMEOUT_S", 0.01)
    sent = []

    async def receive():
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b"x", "more_body": len(sent) < 2}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/images/generations", "headers": []}
    served = gate.Gate(None, max_body_bytes=1000)
    asyncio.run(asyncio.wait_for(served(scope, receive, send), 5))
    assert sent[0]["status"] == 408 and (b"connection", b"close") in sent[0]["headers"]
    assert b"the request was not whole after 0 s" in sent[1]["body"]
