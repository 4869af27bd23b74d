"""pixart-serve joins a cluster of two nodes: an export of the Hub and one of a folder behind one server."""

import base64
import signal
import socket

import httpx
import pytest
import torch

pytest.importorskip("ray", reason="needs the extra serve")

from optimum_pixart_neuron.serving.encoding import encode
from tests.hub.fake_hub import FakeHub
from tests.serving.clusters import two_nodes
from tests.serving.conftest import running, wait_until
from tests.serving.test_serve import free_port, healthy

pytestmark = [pytest.mark.soak, pytest.mark.e2e]
BOUND_S = 500
REPO = "user/pixart-tiny"


def test_two_exports_on_two_nodes_of_a_cluster(export, tmp_path):
    from tests.e2e.conftest import load_ours

    generator = torch.Generator().manual_seed(3)
    alone = encode(load_ours(export)("a red cat", num_inference_steps=1, generator=generator).images[0], "png")
    files = {path.relative_to(export).as_posix(): path.read_bytes() for path in export.rglob("*") if path.is_file()}
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with FakeHub() as hub:
        commit = hub.create(REPO, files).refs["main"]
        with two_nodes(tmp_path / "empty", hub.environment(tmp_path / "hf")) as (nodes, address, environment):
            arguments = (f"local={export}", REPO, "--port", port, "--no_page", "--address", address)
            with running("pixart_serve", *arguments, cwd=tmp_path, environment=environment) as process:
                wait_until(lambda: healthy(url) or process.poll() is not None, BOUND_S, "health")
                assert process.poll() is None, process.communicate()
                models = {model["id"]: model["revision"] for model in httpx.get(f"{url}/v1/models").json()["data"]}
                assert models.keys() == {"local", REPO}
                assert models[REPO] == commit
                for name in models:
                    body = {"model": name, "prompt": "a red cat", "seed": 3, "num_inference_steps": 1}
                    answer = httpx.post(f"{url}/v1/images/generations", json=body, timeout=BOUND_S)
                    assert answer.status_code == 200, answer.text
                    assert base64.b64decode(answer.json()["data"][0]["b64_json"]) == alone, name
                process.send_signal(signal.SIGTERM)
                _, errors = process.communicate(timeout=40)
                assert process.returncode == 0, errors
            assert nodes.poll() is None, "the cluster is not the command's"
            with socket.create_server(("127.0.0.1", port)):
                pass  # nobody listens there any more
        downloads = [
            each.path for each in hub.requests if "/resolve/" in each.path and each.method == "GET" and each.sent
        ]
    assert downloads, "nothing came from the Hub"
    assert len(downloads) == len(set(downloads)), "a file came twice"
