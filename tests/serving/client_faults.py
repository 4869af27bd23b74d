"""What clients do to a server: cut connections, slow ones, broken bodies. Each is called with the server and dice."""

import random
import socket
import time

import httpx

from tests.serving.served import GENERATE, Served

BOUND_S = 30
"""In which every bystander has its answer."""


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
    assert server.ask("refuse").status_code == 400


KINDS = {
    action.__name__.replace("_", "-"): action
    for action in (
        *(cut_while_sending, cut_while_waiting, cut_in_the_stream, slow_sender, slow_reader, broken_body),
        *(body_shorter_than_it_says, no_http, refused_by_the_pipeline),
    )
}
"""By the names of the plan."""
