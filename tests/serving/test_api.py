"""The HTTP of the image server, asked by OpenAI's own client where it can ask."""

import asyncio
import base64
import io
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import torch
from PIL import Image

from tests.serving.conftest import file_in, wait_until
from tests.serving.painter import SIZE, Painter, exported
from tests.serving.served import GENERATE, served

pytestmark = pytest.mark.seconds


@pytest.fixture(scope="module")
def server():
    with served(painters={"painter": Painter(), "other": Painter()}) as running:
        yield running


@pytest.fixture(scope="module")
def openai():
    return pytest.importorskip("openai", reason="needs the extra serve")


@pytest.fixture
def client(openai, server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as made:
        yield made


def painted(prompt: str, seed: int, negative: str = "") -> Image.Image:
    return Painter.paint(prompt, negative, torch.Generator().manual_seed(seed), *SIZE)


def decoded(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content)).convert("RGB")


def test_openais_client_gets_the_images_it_asks_for(client):
    answer = client.images.generate(
        prompt="a cat 🐈", n=2, size="64x32", user="me", extra_body={"seed": 7, "negative_prompt": "dogs"}
    )
    images = [decoded(base64.b64decode(one.b64_json)) for one in answer.data]
    assert images == [painted("a cat 🐈", 7, "dogs"), painted("a cat 🐈", 8, "dogs")]
    assert [one.seed for one in answer.data] == [7, 8]
    assert answer.size == "64x32"


def test_an_image_without_a_seed_tells_its_seed(client):
    first, second = (client.images.generate(prompt="a cat").data[0] for _ in range(2))
    assert first.seed != second.seed
    assert decoded(base64.b64decode(first.b64_json)) == painted("a cat", first.seed)


def test_an_address_gives_the_same_bytes_for_an_hour(client):
    answer = client.images.generate(prompt="a cat", response_format="url", extra_body={"seed": 1})
    got = httpx.get(answer.data[0].url)
    assert (got.status_code, got.headers["content-type"]) == (200, "image/png")
    assert decoded(got.content) == painted("a cat", 1)
    assert httpx.get(answer.data[0].url.replace(".png", "x.png")).status_code == 404


@pytest.mark.parametrize(("name", "form"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
def test_the_format_is_the_one_asked_for(client, name, form):
    answer = client.images.generate(prompt="a cat", output_format=name)
    assert Image.open(io.BytesIO(base64.b64decode(answer.data[0].b64_json))).format == form


def test_a_stream_tells_each_step_and_then_the_image(client):
    events = list(
        client.images.generate(prompt="a cat", stream=True, extra_body={"seed": 3, "num_inference_steps": 4})
    )
    assert [event.type for event in events] == ["image_generation.step"] * 4 + ["image_generation.completed"]
    assert [(event.step, event.of) for event in events[:-1]] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert decoded(base64.b64decode(events[-1].b64_json)) == painted("a cat", 3)


def test_the_model_is_picked_by_name(openai, client, server):
    assert [model.id for model in client.models.list()] == ["painter", "other"]
    before = len(server.painters["other"].batches)
    client.images.generate(prompt="a cat", model="other")
    assert len(server.painters["other"].batches) == before + 1
    assert client.models.retrieve("other").sizes == ["64x32"]
    with pytest.raises(openai.NotFoundError, match="there are painter, other"):
        client.images.generate(prompt="a cat", model="third")


# What is sent, and the status, field and part of the message of the answer.
REFUSED = [
    ({}, 400, "prompt", "prompt is missing"),
    ({"prompt": ""}, 400, "prompt", "at least 1"),
    ({"prompt": 3}, 400, "prompt", "string"),
    ({"prompt": "x" * 4001}, 400, "prompt", "4001 characters, 4000 are allowed"),
    ({"negative_prompt": "x" * 4001}, 400, "negative_prompt", "4000"),
    ({"n": 0}, 400, "n", "greater than or equal to 1"),
    ({"n": 11}, 400, "n", "at most 10"),
    ({"n": True}, 400, "n", "integer"),
    ({"n": "1"}, 400, "n", "integer"),
    ({"n": 10**30}, 400, "n", "at most 10"),
    ({"size": "1024x1024"}, 400, "size", "painter draws 64x32"),
    ({"size": "32x64"}, 400, "size", "painter draws 64x32"),
    ({"num_inference_steps": 101}, 400, "num_inference_steps", "at most 100"),
    ({"num_inference_steps": -1}, 400, "num_inference_steps", "greater than or equal to 1"),
    ({"guidance_scale": 101}, 400, "guidance_scale", "less than or equal to 100"),
    ({"guidance_interval": [0.0, 0.5]}, 400, "guidance_interval", "no program without guidance"),
    ({"seed": -1}, 400, "seed", "greater than or equal to 0"),
    ({"seed": 2**63}, 400, "seed", "less than or equal"),
    ({"response_format": "file"}, 400, "response_format", "'b64_json' or 'url'"),
    ({"sede": 1}, 400, "sede", "unknown"),
    ({"model": "third"}, 404, "model", "there are painter, other"),
]


def test_what_does_not_fit_is_refused_by_name_in_openais_form(server):
    with httpx.Client(base_url=server.url) as http:
        for fields, status, param, said in REFUSED:
            body = {"prompt": "a cat", **fields} if fields else {}
            answer = http.post(GENERATE, json=body)
            error = answer.json()["error"]
            assert (answer.status_code, error["param"]) == (status, param), fields
            assert said in error["message"], error["message"]
            assert set(error) == {"message", "type", "param", "code"}


BROKEN_BODIES = [b"", b"{", b"[]", b"null", b'"a cat"', b'{"prompt": "\\ud800"}', b"\xff\xfe", b"[" * 50_000]
BROKEN_BODIES += [b'{"prompt": "a", "guidance_scale": NaN}', b'{"prompt": "a", "guidance_scale": 1e999}']


def test_a_broken_body_is_400(server):
    with httpx.Client(base_url=server.url) as http:
        for body in BROKEN_BODIES:
            answer = http.post(GENERATE, content=body)
            assert answer.status_code == 400, body[:40]
            assert answer.json()["error"]["type"] == "invalid_request_error"


def test_other_requests_are_answered_in_openais_form(server):
    with httpx.Client(base_url=server.url) as http:
        assert http.post(GENERATE, content=b"x" * (1 << 17 | 1)).status_code == 413
        assert http.post(GENERATE, content=iter([b"x" * (1 << 16)] * 3)).status_code == 413  # of no stated length
        assert http.get(GENERATE).status_code == 405
        assert http.get("/v1/nothing").json()["error"]["code"] == "not_found"
        assert http.post("/gradio_api/upload", content=b"x").status_code == 404


def test_a_refused_request_is_read_to_its_end_and_answered(server):
    """What is left unread when the server closes would reset the connection before the answer is read."""
    port = httpx.URL(server.url).port
    for sent_at_once in (True, False):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
            raw.sendall(b"POST /gradio_api/upload HTTP/1.1\r\nhost: x\r\ncontent-length: 300000\r\n\r\n")
            raw.sendall(b"x" * (300000 if sent_at_once else 1000))
            answer = b""
            while received := raw.recv(1 << 16):
                answer += received
        assert answer.startswith(b"HTTP/1.1 404") and b"nothing is uploaded here" in answer


def test_a_key_is_asked_for_where_keys_are_known(openai):
    with served(keys=["first", "sécond"]) as server, httpx.Client(base_url=server.url) as http:
        for key in (None, "third", "firs"):
            headers = {"authorization": f"Bearer {key}"} if key is not None else {}
            assert http.get("/v1/models", headers=headers).status_code == 401
        assert http.get("/v1/models", headers={"authorization": "Basic first"}).status_code == 401
        for key in ("first", "sécond"):
            assert http.get("/v1/models", headers={"authorization": f"Bearer {key}".encode()}).status_code == 200
        assert http.get("/health").status_code == 200
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="third", max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError):
                client.images.generate(prompt="a cat")


def test_requests_share_batches_and_one_that_is_alone_does_not_wait():
    with served() as server, ThreadPoolExecutor(9) as threads:
        painter, model = server.painters["painter"], server.models["painter"]
        painter.gate.clear()

        def ask(number: int) -> Image.Image:
            return decoded(file_in(server.ask(f"cat {number}", seed=number, num_inference_steps=2)))

        first = threads.submit(ask, 0)
        wait_until(lambda: painter.batches)  # it is drawn at once
        others = [threads.submit(ask, number) for number in range(1, 9)]
        wait_until(lambda: model.open == 9)
        painter.gate.set()
        images = [each.result() for each in (first, *others)]
        assert images == [painted(f"cat {number}", number) for number in range(9)]
        assert [len(batch) for batch in painter.batches] == [1, 4, 4]
        text = httpx.get(f"{server.url}/metrics").text
        assert 'pixart_denoising_steps_total{model="painter"} 6.0' in text
        assert 'pixart_images_total{model="painter"} 9.0' in text
        assert 'pixart_requests_total{model="painter",status="200"} 9.0' in text
        assert 'pixart_open_requests{model="painter"} 0.0' in text


def test_one_request_of_a_batch_that_is_refused_does_not_harm_the_others():
    with served() as server, ThreadPoolExecutor(4) as threads:
        painter, model = server.painters["painter"], server.models["painter"]
        painter.gate.clear()
        first = threads.submit(server.ask, "a cat")
        wait_until(lambda: painter.batches)
        rest = [threads.submit(server.ask, prompt) for prompt in ("a dog", "refuse", "a cow")]
        wait_until(lambda: model.open == 4)
        painter.gate.set()
        assert [each.result().status_code for each in (first, *rest)] == [200, 200, 400, 200]
        assert rest[1].result().json()["error"]["message"] == "prompt: this one is refused"


def test_too_many_requests_are_429_and_later_ones_are_taken_again():
    with served(max_requests=2) as server, ThreadPoolExecutor(2) as threads:
        server.painters["painter"].gate.clear()
        taken = [threads.submit(server.ask, "a cat") for _ in range(2)]
        wait_until(lambda: server.models["painter"].open == 2)
        refused = server.ask("a cat")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
        assert refused.json()["error"]["type"] == "rate_limit_error"
        server.painters["painter"].gate.set()
        assert [each.result().status_code for each in taken] == [200, 200]
        assert server.ask("a cat").status_code == 200


def test_a_request_that_is_not_drawn_in_time_is_504_and_is_not_drawn_later():
    with served(request_timeout=0.3) as server:
        painter = server.painters["painter"]
        painter.gate.clear()
        assert server.ask("late").status_code == 504
        assert server.ask("later").status_code == 504
        events = server.ask("late", stream=True).text
        assert json.loads(events.split("data: ")[1])["error"]["code"] == "timeout"
        painter.gate.set()
        wait_until(lambda: server.models["painter"].open == 0)
        assert server.ask("in time").status_code in (200, 504)
        assert [batch for batch in painter.batches if batch != ["in time"]] == [["late"]]


def leave(server, body: dict, when) -> None:
    """Ask, and close the connection when `when()` is true."""
    gone = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=server.url, timeout=30) as http:
            request = http.build_request("POST", GENERATE, json={**body, "stream": True})
            response = http.send(request, stream=True)
            wait_until(when)
            response.close()
        gone.set()

    threading.Thread(target=ask, daemon=True).start()
    assert gone.wait(30)


def test_a_client_that_left_while_waiting_is_never_drawn():
    with served() as server, ThreadPoolExecutor(1) as threads:
        painter, model = server.painters["painter"], server.models["painter"]
        painter.gate.clear()
        drawn = threads.submit(server.ask, "stays")
        wait_until(lambda: painter.batches)
        leave(server, {"prompt": "leaves"}, lambda: model.open == 2)
        wait_until(lambda: model.open == 1)
        painter.gate.set()
        assert drawn.result().status_code == 200
        assert server.ask("next").status_code == 200
        assert painter.batches == [["stays"], ["next"]]


def test_a_batch_stops_between_steps_when_all_its_clients_have_left():
    with served() as server:
        painter, model = server.painters["painter"], server.models["painter"]
        reached, go_on = threading.Event(), threading.Event()

        def on_step(done: int) -> None:
            if done == 2:
                reached.set()
                assert go_on.wait(30)

        painter.on_step = on_step
        leave(server, {"prompt": "leaves", "num_inference_steps": 50}, reached.is_set)
        wait_until(lambda: model.open == 0)
        go_on.set()
        assert server.ask("next", num_inference_steps=1).status_code == 200
        assert painter.steps == 3


def test_a_pipeline_that_fails_is_503_and_no_traceback():
    with served() as server:
        assert httpx.get(f"{server.url}/health").json() == {"status": "serving", "models": {"painter": "ready"}}
        answer = server.ask("break")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert answer.json()["error"]["message"] == "the pipeline failed and is being replaced; try again"
        health = httpx.get(f"{server.url}/health")
        assert health.status_code == 503
        assert "the device failed" in health.json()["models"]["painter"]


def test_an_engine_that_never_answered_is_starting(monkeypatch):
    monkeypatch.setattr("optimum_pixart_neuron.serving.server.api._HEALTH_TIMEOUT_S", 0.05)
    with served() as server:
        model = server.models["painter"]
        problem = model.engine.problem

        def health() -> tuple[int, dict]:
            answer = httpx.get(f"{server.url}/health")
            return answer.status_code, answer.json()

        async def silence() -> None:
            await asyncio.sleep(60)

        model.engine.problem = silence
        assert health() == (503, {"status": "starting", "models": {"painter": "starting"}})
        model.engine.problem = problem
        assert health() == (200, {"status": "serving", "models": {"painter": "ready"}})
        model.engine.problem = silence
        assert health() == (503, {"status": "serving", "models": {"painter": "does not answer"}})


def test_draining_finishes_what_is_there_and_takes_nothing_new():
    with served() as server, ThreadPoolExecutor(2) as threads:
        painter = server.painters["painter"]
        painter.gate.clear()
        drawn = threads.submit(server.ask, "a cat")
        wait_until(lambda: painter.batches)
        drained = threads.submit(server.run, lambda: server.api.drain(20))
        wait_until(lambda: httpx.get(f"{server.url}/health").status_code == 503)
        assert server.ask("late").status_code == 503
        painter.gate.set()
        assert drawn.result().status_code == 200
        assert drained.result() is True


def test_guidance_in_a_part_of_the_steps_where_the_export_has_it():
    painter = Painter()
    with served(painters={"painter": painter}, facts={"painter": exported(takes_interval=True)}) as server:
        assert server.ask("a cat").status_code == 200
        assert server.ask("a cat", guidance_interval=(0.25, 1)).status_code == 200
        for interval in [(0.5, 0.5), (-0.1, 1), (0, 1.5), (1, 0)]:
            answer = server.ask("a cat", guidance_interval=interval)
            assert answer.status_code == 400
            assert "0 <= begin < end <= 1" in answer.json()["error"]["message"]
        assert server.ask("a cat", guidance_interval=(0.5,)).status_code == 400
        assert httpx.get(f"{server.url}/v1/models").json()["data"][0]["guidance_interval"] is True
    assert painter.intervals == ["all", (0.25, 1.0)]


def test_an_export_without_guidance_is_not_asked_for_it():
    with served(facts={"painter": exported(guided=False, guidance_scale=1.0)}) as server:
        answer = server.ask("a cat", guidance_scale=4.5)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "guidance_scale")
        assert server.ask("a cat").status_code == 200
