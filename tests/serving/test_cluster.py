"""More than one pipeline and more than one machine: clusters, growing replicas, `serve deploy`, the Hub."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from tests.extras import needs
from tests.hub.exports import content
from tests.hub.fake_hub import FakeHub
from tests.serving.clusters import node_environment, two_nodes
from tests.serving.conftest import alive, drawn_alone, family_of, file_in, free_port, named, running, wait_until
from tests.serving.served import GENERATE
from tests.serving.test_serve import healthy

pytestmark = [pytest.mark.soak, pytest.mark.e2e, needs("ray")]
BOUND_S = 500
REPO, PROMPTS = "user/pixart-tiny", "user/prompts"
BODY = {"prompt": "a red cat", "seed": 3, "num_inference_steps": 1}
EXAMPLE = Path(__file__).parents[2] / "examples" / "serve" / "serve.yaml"


def expected(export: Path, prompt: str = "a red cat", seed: int = 3) -> bytes:
    from tests.e2e.conftest import load_ours

    return drawn_alone(load_ours(export), prompt, seed)


def test_two_exports_on_two_nodes_of_a_cluster(export, tmp_path):
    alone = expected(export)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with FakeHub() as hub:
        commit = hub.create(REPO, content(export)).refs["main"]
        with two_nodes(tmp_path / "empty", hub.environment(tmp_path / "hf")) as (nodes, address, environment):
            arguments = (f"local={export}", REPO, "--port", port, "--no_page", "--address", address)
            with running("pixart_serve", *arguments, cwd=tmp_path, environment=environment) as process:
                wait_until(lambda: healthy(url) or process.poll() is not None, BOUND_S, "health")
                assert process.poll() is None, process.communicate()
                models = {model["id"]: model["revision"] for model in httpx.get(f"{url}/v1/models").json()["data"]}
                assert models.keys() == {"local", REPO}
                assert models[REPO] == commit
                for name in models:
                    answer = httpx.post(f"{url}{GENERATE}", json={**BODY, "model": name}, timeout=BOUND_S)
                    assert file_in(answer) == alone, name
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


def test_the_number_of_replicas_follows_the_requests(export, tmp_path):
    alone = expected(export)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    grown, wrong = threading.Event(), []

    def keep_asking() -> None:
        while not grown.is_set():
            answer = httpx.post(f"{url}{GENERATE}", json=BODY, timeout=BOUND_S)
            if answer.status_code != 200 or file_in(answer) != alone:
                wrong.append(answer.text[:200])

    arguments = (export, "--port", port, "--no_page", "--replicas", 1, "--max_replicas", 2)
    cores = {**os.environ, "NEURON_RT_VISIBLE_CORES": "0-3"}
    with running("pixart_serve", *arguments, cwd=tmp_path, environment=cores, instance="trn1.32xlarge") as process:
        wait_until(lambda: healthy(url) or process.poll() is not None, BOUND_S, "health")
        assert process.poll() is None, process.communicate()
        replicas = lambda: len(named(process, "ServeReplica:pixart:export"))  # noqa: E731
        assert replicas() == 1
        askers = [threading.Thread(target=keep_asking) for _ in range(16)]
        for asker in askers:
            asker.start()
        try:
            wait_until(lambda: replicas() == 2, BOUND_S, "a second replica")
        finally:
            grown.set()
            for asker in askers:
                asker.join(BOUND_S)
        assert not wrong, wrong


def test_serve_deploys_the_example(export, tmp_path):
    """With an export and cores of this machine in place of the cluster's."""
    import yaml

    alone = expected(export)
    port, dashboard, gcs = (free_port() for _ in range(3))
    url = f"http://127.0.0.1:{port}"
    (tmp_path / "keys").write_text("secret\n")
    config = yaml.safe_load(EXAMPLE.read_text())
    config["http_options"].update(host="127.0.0.1", port=port)
    (application,) = config["applications"]
    own = {"exports": [f"tiny={export}"], "replicas": 1, "api_key_file": str(tmp_path / "keys"), "no_page": True}
    application["args"].update(own, host="127.0.0.1", port=port)
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(config))
    environment = node_environment()
    (tmp_path / "empty").mkdir()
    folder = Path(sys.executable).parent
    head = ("start", "--head", "--block", "--node-ip-address=127.0.0.1")
    ports = (f"--port={gcs}", f"--dashboard-port={dashboard}")
    more = ("--resources", json.dumps({"neuron_cores": 2}), "--num-cpus=4", "--object-store-memory=104857600")
    with subprocess.Popen(
        [folder / "ray", *head, *ports, *more], env=environment, cwd=tmp_path / "empty", stdout=subprocess.DEVNULL
    ) as ray:
        try:
            wait_until(lambda: _listens(dashboard) or ray.poll() is not None, BOUND_S, "the dashboard")
            deploy = [folder / "serve", "deploy", tmp_path / "serve.yaml"]
            deploy += ["--address", f"http://127.0.0.1:{dashboard}"]
            said = subprocess.run(deploy, env=environment, cwd=tmp_path / "empty", capture_output=True, text=True)
            assert said.returncode == 0, said
            wait_until(lambda: healthy(url) or ray.poll() is not None, BOUND_S, "health")
            assert httpx.post(f"{url}{GENERATE}", json=BODY, timeout=BOUND_S).status_code == 401
            key = {"authorization": "Bearer secret"}
            assert file_in(httpx.post(f"{url}{GENERATE}", json=BODY, headers=key, timeout=BOUND_S)) == alone
        finally:
            family = family_of(ray)
            for each in family:
                if each.is_running():
                    each.kill()
            wait_until(lambda: not alive(family), 30, "the end of Ray")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_an_export_and_prompts_of_the_hub(export, tmp_path):
    rows = [{"prompt": "a red cat", "seed": 3}, {"prompt": "a blue dog", "seed": 4}]
    table = "".join(json.dumps(row) + "\n" for row in rows).encode()
    with FakeHub() as hub:
        commit = hub.create(REPO, content(export)).refs["main"]
        hub.create(PROMPTS, {"train.jsonl": table})
        environment = {**os.environ, **hub.environment(tmp_path / "hf")}
        command = ("pixart_generate", REPO, "--prompts", PROMPTS, "out", "--num_inference_steps", 1)
        with running(*command, cwd=tmp_path, environment=environment) as process:
            output, errors = process.communicate(timeout=BOUND_S)
        assert process.returncode == 0, (output, errors)
    lines = [json.loads(line) for line in (tmp_path / "out" / "metadata.jsonl").read_text().splitlines()]
    assert [(line["prompt"], line["seed"], line["export"], line["revision"]) for line in lines] == [
        (row["prompt"], row["seed"], REPO, commit) for row in rows
    ]
    for line in lines:
        alone = expected(export, line["prompt"], line["seed"])
        assert (tmp_path / "out" / line["file_name"]).read_bytes() == alone
