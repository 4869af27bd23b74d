"""36 seeded faults of clients and pipelines against one server after another: nobody else's image is lost or wrong."""

import base64
import io
import random
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

pytest.importorskip("fastapi", reason="needs the extra serve")
import httpx
from PIL import Image

from tests.serving.painter import SIZE, Painter
from tests.serving.served import Served, served

pytestmark = pytest.mark.soak
FAULTS = 36
BOUND_S = 30
"""In which every bystander has its answer."""
GENERATE = "/v1/images/generations"


def connection(server: Served) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=BOUND_S)


def request(body: bytes, length: int | None = None) -> bytes:
    head = f"POST {GENERATE} HTTP/1.1\r\nhost: x\r\ncontent-length: {length or len(body)}\r\n\r\n"
    return head.encode() + body


def cut_while_sending(server: Served, dice: random.Random) -> None:
    content = request(b'{"prompt": "cut"}')
    with connection(server) as client:
        client.sendall(content[: dice.randrange(1, len(content))])


def cut_while_waiting(server: Served, dice: random.Random) -> None:
    with connection(server) as client:
        client.sendall(request(b'{"prompt": "cut", "num_inference_steps": 50}'))
        time.sleep(dice.random() * 0.3)


def cut_in_the_stream(server: Served, dice: random.Random) -> None:
    with connection(server) as client:
        client.sendall(request(b'{"prompt": "cut", "num_inference_steps": 50, "stream": true}'))
        for _ in range(dice.randrange(1, 5)):
            client.recv(64)


def slow_sender(server: Served, dice: random.Random) -> None:
    with connection(server) as client:
        for byte in request(b'{"prompt": "slow"}')[: dice.randrange(20, 60)]:
            client.sendall(bytes([byte]))
            time.sleep(0.02)


def slow_reader(server: Served, dice: random.Random) -> None:
    with connection(server) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        client.sendall(request(b'{"prompt": "slow", "n": 10, "stream": true}'))
        time.sleep(dice.random())


def broken_body(server: Served, dice: random.Random) -> None:
    body = dice.choice([b"{", b"\xff" * 100, b"[" * 60_000, b'{"prompt": ' * 1000, b"x" * 200_000])
    with httpx.Client(base_url=server.url) as http:
        assert http.post(GENERATE, content=body).status_code in (400, 413)


def body_shorter_than_it_says(server: Served, dice: random.Random) -> None:
    with connection(server) as client:
        client.sendall(request(b'{"prompt": "short"}', length=1000 + dice.randrange(1000)))
        client.shutdown(socket.SHUT_WR)
        client.recv(1024)


def no_http(server: Served, dice: random.Random) -> None:
    with connection(server) as client:
        client.sendall(dice.randbytes(2000) + b"\r\n\r\n")
        client.recv(1024)


def refused_by_the_pipeline(server: Served, dice: random.Random) -> None:
    answer = httpx.post(server.url + GENERATE, json={"prompt": "refuse"}, timeout=BOUND_S)
    assert answer.status_code == 400


KINDS = (
    *(cut_while_sending, cut_while_waiting, cut_in_the_stream, slow_sender, slow_reader, broken_body),
    *(body_shorter_than_it_says, no_http, refused_by_the_pipeline),
)


def bystander(server: Served, number: int) -> bool:
    """Whether a client of good manners gets its own picture."""
    body = {"prompt": f"bystander {number}", "seed": number}
    answer = httpx.post(server.url + GENERATE, json=body, timeout=BOUND_S)
    image = Image.open(io.BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"]))).convert("RGB")
    return image == Painter.paint(body["prompt"], "", torch.Generator().manual_seed(number), *SIZE)


def test_nobody_suffers_from_other_clients():
    counts: Counter[str] = Counter()
    with served(painters={"painter": Painter(0.01)}) as server, ThreadPoolExecutor(4) as threads:
        for seed in range(FAULTS):
            dice = random.Random(seed)
            fault = KINDS[seed % len(KINDS)]
            bystanders = [threads.submit(bystander, server, 10 * seed + n) for n in range(3)]
            fault(server, dice)
            assert all(each.result(BOUND_S) for each in bystanders), fault.__name__
            counts[fault.__name__] += 1
        end = time.monotonic() + BOUND_S
        while server.models["painter"].open:
            assert time.monotonic() < end, "a request is still open"
            time.sleep(0.05)
        before = threading.active_count()
        assert httpx.get(f"{server.url}/health").status_code == 200
        drawn = Counter(prompt for batch in server.painters["painter"].batches for prompt in batch)
    twice = {prompt for prompt, times in drawn.items() if prompt.startswith("bystander") and times > 1}
    assert not twice, "drawn twice"
    assert len(drawn.keys() & {f"bystander {10 * seed + n}" for seed in range(FAULTS) for n in range(3)}) == 3 * FAULTS
    print(f"{FAULTS} faults ({dict(counts)}), {3 * FAULTS} bystanders, {before} threads")
