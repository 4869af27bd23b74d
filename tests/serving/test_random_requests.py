"""Requests at random: whatever is sent, the answer is an image or a refusal in OpenAI's form, no fault of ours."""

import json
import random

import httpx
import pytest

from tests.serving.served import GENERATE, served

FIELDS = (
    *("prompt", "model", "n", "size", "response_format", "output_format", "stream", "user", "negative_prompt", "seed"),
    *("num_inference_steps", "guidance_scale", "guidance_interval", "quality", "__class__", "", "prompt\x00"),
)
TEXTS = (
    "",
    "a cat",
    "猫 🐈‍⬛ ̈́",
    "\x00\x1b[31m",
    "x" * 5000,
    "../../etc/passwd",
    "<script>alert(1)</script>",
    "' OR 1=1",
    "\u202egnp",
)
NUMBERS = (0, 1, -1, 2, 2**31, 2**63, 2**64, 10**40, -(10**40), 0.5, 1e308, -1e308, 1e-320)
FITTING = {
    "prompt": ("a cat", "猫", "\x00", "<b>"),
    "n": (1, 2),
    "size": ("auto", "64x32"),
    "response_format": ("url", "b64_json"),
    "output_format": ("png", "jpeg", "webp"),
    "stream": (True, False),
    "seed": (0, 2**63 - 1),
    "num_inference_steps": (1, 3),
    "guidance_scale": (0, 1, 7.5),
}
METHODS = ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD")


def anything(dice: random.Random, depth: int = 0):
    """A JSON value of any kind."""
    kinds = [
        lambda: dice.choice(TEXTS),
        lambda: dice.choice(NUMBERS),
        lambda: dice.choice((True, False, None)),
        lambda: [anything(dice, depth + 1) for _ in range(dice.randrange(4))],
        lambda: {dice.choice(TEXTS): anything(dice, depth + 1) for _ in range(dice.randrange(4))},
    ]
    return dice.choice(kinds[: 3 if depth > 3 else 5])()


def body_of(dice: random.Random) -> bytes:
    """From a request that fits to bytes that are no JSON."""
    body = {name: dice.choice(values) for name, values in FITTING.items() if name == "prompt" or dice.random() < 0.5}
    for _ in range(dice.choice((0, 1, 1, 2))):
        body[dice.choice(FIELDS)] = anything(dice)
    if dice.random() < 0.1:
        del body["prompt"]
    if dice.random() < 0.1:
        return json.dumps(anything(dice)).encode()
    content = json.dumps(body, ensure_ascii=dice.random() < 0.5).encode("utf-8", "surrogatepass")
    if dice.random() < 0.2:
        cut = dice.randrange(len(content))
        content = content[:cut] + dice.choice((b"", b"\xff", b"\x00", b"[" * 2000, b'\\ud800"')) + content[cut + 1 :]
    return content


def ask(http: httpx.Client, dice: random.Random) -> None:
    if dice.random() < 0.1:
        path = dice.choice((GENERATE, "/v1/models", "/v1/%00", "/v1/images/files/../..", "/health", "/metrics?x=1"))
        answer = http.request(dice.choice(METHODS), path)
        assert answer.status_code < 500, (path, answer.text)
        return
    body = body_of(dice)
    headers = {"content-type": dice.choice(("application/json", "text/plain", "multipart/form-data", ""))}
    answer = http.post(GENERATE, content=body, headers=headers)
    said = f"{answer.status_code} {answer.text[:300]} for {body[:300]!r}"
    assert answer.status_code in (200, 400, 404), said
    assert "Traceback" not in answer.text and 'File "' not in answer.text, said
    if answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream"):
        assert answer.text.endswith("data: [DONE]\n\n"), said
    elif answer.status_code == 200:
        assert all(one.keys() & {"url", "b64_json"} for one in answer.json()["data"]), said
    else:
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"} and "\n" not in error["message"], said


@pytest.mark.seconds
@pytest.mark.parametrize(
    "seeds", [pytest.param(range(40), id="40"), pytest.param(range(40, 190), id="150", marks=pytest.mark.soak)]
)
def test_random_requests_are_drawn_or_refused(seeds):
    with served() as server, httpx.Client(base_url=server.url, timeout=30) as http:
        for seed in seeds:
            ask(http, random.Random(seed))
        assert http.get("/health").status_code == 200
        assert server.models["painter"].open == 0
