"""50 seeded faults of jobs and servers: no image is lost, doubled or half, and nobody waits beyond a bound.

Each kind stands in `PLAN` with its number; the last test prints how many were injected, and that these are all.
"""

import io
import json
import random
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import torch
from PIL import Image

from optimum_pixart_neuron.serving.picture import seed_of
from tests.extras import needs
from tests.faults.full_disk import small_disk
from tests.serving import client_faults
from tests.serving.clusters import two_nodes
from tests.serving.conftest import alive, drawn_alone, family_of, file_in, free_port, named, running, wait_until
from tests.serving.painter import SIZE, Painter
from tests.serving.served import GENERATE, Served, served
from tests.serving.test_serve import healthy

pytestmark = [pytest.mark.soak, pytest.mark.e2e, needs("ray")]
BOUND_S = 900
ROWS = 24
KILLS = ("driver", "actor", "rank", "driver", "actor", "rank")
PLAN = {
    "job-driver-killed": 2,
    "job-actor-killed": 2,
    "job-rank-killed": 2,
    "job-node-killed": 1,
    "job-disk-full": 2,
    "server-rank-killed": 3,
    "server-replica-killed": 2,
    **dict.fromkeys(client_faults.KINDS, 4),
}
TOTAL = 50
assert sum(PLAN.values()) == TOTAL
RANK, ACTOR, REPLICA, DRIVER = "emulator.launcher", "ray::MapWorker", "ServeReplica:pixart:export", "commands.pixart_"


@pytest.fixture(scope="module")
def injected() -> Counter:
    """Faults of each kind that tests have injected."""
    return Counter()


@pytest.fixture(scope="module")
def pictures(export) -> list[bytes]:
    """What each row must become, drawn one by one in this process."""
    from tests.e2e.conftest import load_ours

    pipe = load_ours(export)
    return [drawn_alone(pipe, f"cat {row}", seed_of(0, row)) for row in range(ROWS)]


@pytest.fixture
def prompts(tmp_path) -> Path:
    file = tmp_path / "prompts.txt"
    file.write_text("".join(f"cat {row}\n" for row in range(ROWS)))
    return file


def lines_of(out: Path) -> list[dict]:
    file = out / "metadata.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines() if line.endswith("}")] if file.exists() else []


def check(out: Path, pictures: list[bytes]) -> None:
    """Everything is there once, and right."""
    lines = lines_of(out)
    assert Counter(line["row"] for line in lines) == Counter(range(ROWS))
    for line in lines:
        assert (out / line["file_name"]).read_bytes() == pictures[line["row"]], line
    assert len(list((out / "images").rglob("*"))) == ROWS + 1


def command(export: Path, prompts: Path, out: Path, *more: object) -> tuple:
    return ("pixart_generate", export, "--prompts", prompts, out, "--num_inference_steps", 1, *more)


def test_a_job_survives_six_kills(export, prompts, pictures, tmp_path, injected):
    out = tmp_path / "out"
    for number, kind in enumerate((*KILLS, None)):
        dice = random.Random(number)
        with running(*command(export, prompts, out), cwd=tmp_path) as process:
            done = len(lines_of(out))
            if kind is not None:
                wanted = min(done + dice.randrange(1, 4), ROWS)
                wait_until(lambda: len(lines_of(out)) >= wanted or process.poll() is not None, BOUND_S, "a picture")  # noqa: B023
                if process.poll() is None:
                    victims = named(process, {"driver": DRIVER, "actor": ACTOR, "rank": RANK}[kind])
                    family = family_of(process)
                    if victims:
                        victims[-1].send_signal(signal.SIGKILL)
                        injected[f"job-{kind}-killed"] += 1
            if kind == "driver":
                process.wait(60)
                wait_until(lambda: not alive(family), 60, "the end of all processes")  # noqa: B023
                continue
            output, errors = process.communicate(timeout=BOUND_S)
            assert process.returncode == 0, (kind, output, errors)
            check(out, pictures)
            if kind is not None:  # go on with a part of it
                _forget(out, ROWS // 2)
    check(out, pictures)


def _forget(out: Path, rows: int) -> None:
    """As after a kill at that point."""
    lines = (out / "metadata.jsonl").read_bytes().splitlines(keepends=True)
    (out / "metadata.jsonl").write_bytes(b"".join(lines[:rows]))


def test_a_full_disk_ends_the_job_and_more_room_goes_on_with_it(export, prompts, pictures, tmp_path, injected):
    folder = tmp_path / "small"
    folder.mkdir()
    room = sum(len(picture) for picture in pictures) // 2
    with small_disk(folder, room) as disk:
        if disk is None:
            del PLAN["job-disk-full"]
            pytest.skip("this machine lets nobody mount a tmpfs")
        out = disk.seen(folder) / "out"
        for more_room in (False, True):
            with running(*command(export, prompts, folder / "out"), cwd=tmp_path, prepare=disk.arm) as process:
                _, errors = process.communicate(timeout=BOUND_S)
            assert process.returncode == 1, errors
            assert "No space left on device; what is there is whole" in errors.splitlines()[-1]
            injected["job-disk-full"] += 1
            for line in lines_of(out):
                assert (out / line["file_name"]).read_bytes() == pictures[line["row"]]
            if more_room:
                disk.resize(str(4 * room))
        with running(*command(export, prompts, folder / "out"), cwd=tmp_path, prepare=disk.arm) as process:
            _, errors = process.communicate(timeout=BOUND_S)
        assert process.returncode == 0, errors
        check(out, pictures)


def test_a_node_of_two_is_lost_and_no_picture_with_it(export, prompts, pictures, tmp_path, injected):
    out = tmp_path / "out"
    with two_nodes(tmp_path / "empty") as (nodes, address, environment):
        with running(
            *command(export, prompts, out, "--address", address), cwd=tmp_path, environment=environment
        ) as process:
            wait_until(lambda: len(lines_of(out)) >= 4 or process.poll() is not None, BOUND_S, "pictures")
            assert process.poll() is None, process.communicate()
            actors = len(named(nodes, ACTOR))
            nodes.stdin.write("kill\n")
            nodes.stdin.flush()
            injected["job-node-killed"] += 1
            output, errors = process.communicate(timeout=BOUND_S)
        assert process.returncode == 0, (output, errors)
        check(out, pictures)
        print(f"{actors} actors on two nodes, one node killed")


def test_a_server_survives_five_kills_while_it_is_asked(export, pictures, tmp_path, injected):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    counts: Counter[int] = Counter()
    stop = threading.Event()

    def keep_asking(row: int) -> None:
        while not stop.is_set():
            body = {"prompt": f"cat {row}", "seed": seed_of(0, row), "num_inference_steps": 1}
            answer = httpx.post(url + GENERATE, json=body, timeout=BOUND_S)
            counts[answer.status_code] += 1
            if answer.status_code == 200:
                counts[-1] += file_in(answer) != pictures[row]
            time.sleep(0.1)

    with running("pixart_serve", export, "--port", port, "--no_page", cwd=tmp_path) as process:
        wait_until(lambda: healthy(url) or process.poll() is not None, BOUND_S, "health")
        askers = [threading.Thread(target=keep_asking, args=(row,)) for row in range(3)]
        for asker in askers:
            asker.start()
        for seed, part in enumerate((RANK, REPLICA, RANK, REPLICA, RANK)):
            before = counts[200]
            wait_until(lambda: counts[200] > before, BOUND_S, "an image")  # noqa: B023
            random.Random(seed).choice(named(process, part)).kill()
            injected["server-rank-killed" if part == RANK else "server-replica-killed"] += 1
            wait_until(lambda: healthy(url), BOUND_S, "health")
        stop.set()
        for asker in askers:
            asker.join(BOUND_S)
            assert not asker.is_alive()
    print(f"answers: {dict(counts)}")
    assert counts[-1] == 0, "a wrong image"
    assert counts.keys() <= {200, 503, -1}


def bystander(server: Served, number: int) -> bool:
    """Whether a client of good manners gets its own picture."""
    prompt = f"bystander {number}"
    image = Image.open(io.BytesIO(file_in(server.ask(prompt, seed=number)))).convert("RGB")
    return image == Painter.paint(prompt, "", torch.Generator().manual_seed(number), *SIZE)


def test_nobody_suffers_from_other_clients(injected):
    kinds = [kind for kind in client_faults.KINDS for _ in range(PLAN[kind])]
    random.Random(0).shuffle(kinds)
    with served(painters={"painter": Painter(0.01)}) as server, ThreadPoolExecutor(4) as threads:
        for seed, kind in enumerate(kinds):
            bystanders = [threads.submit(bystander, server, 10 * seed + n) for n in range(3)]
            client_faults.KINDS[kind](server, random.Random(seed))
            assert all(each.result(client_faults.BOUND_S) for each in bystanders), kind
            injected[kind] += 1
        wait_until(lambda: not server.models["painter"].open, client_faults.BOUND_S, "the end of every request")
        assert httpx.get(f"{server.url}/health").status_code == 200
        drawn = Counter(server.painters["painter"].drawn)
    wanted = {f"bystander {10 * seed + n}": 1 for seed in range(len(kinds)) for n in range(3)}
    assert {prompt: times for prompt, times in drawn.items() if prompt.startswith("bystander")} == wanted


def test_every_fault_of_the_plan_was_injected(injected):
    print(f"{injected.total()} faults: {dict(injected)}")
    assert injected == PLAN
