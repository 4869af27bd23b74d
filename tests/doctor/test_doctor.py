"""Each line of the diagnosis turns from good to bad with its stand-in, and the last sentence says what to do first."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from optimum_pixart_neuron.commands.pixart_doctor import COMMAND
from optimum_pixart_neuron.doctor import bundle as bundles
from optimum_pixart_neuron.doctor import diagnosis as examined
from optimum_pixart_neuron.doctor import inventory, resources
from optimum_pixart_neuron.doctor.diagnosis import Diagnosis, diagnose
from optimum_pixart_neuron.doctor.findings import Finding
from optimum_pixart_neuron.doctor.inventory import Holder, Places
from optimum_pixart_neuron.doctor.needs import MODEL, Needs
from optimum_pixart_neuron.hardware import GIB, get_instance
from optimum_pixart_neuron.hardware.sdk_releases import SDK_RELEASES, get_release, release_of

from ..hub.conftest import hub  # noqa: F401
from ..hub.fake_hub import Fault

RELEASE = get_release("2.26.1")
PACKAGES = {
    **RELEASE.versions,
    "optimum-neuron": "0.4.5",
    "diffusers": "0.35.2",
    "transformers": "4.57.6",
    "numpy": "1.26.4",
}
NEEDS = Needs(instance=get_instance("trn1.32xlarge"), ranks=8, checkpoint=20 * GIB, export=21 * GIB, memory=5 * GIB)


class Machine:
    """A trn1.32xlarge on which everything is as it should be, made of files, a script and a Hub on 127.0.0.1."""

    def __init__(self, folder: Path, monkeypatch, hub):  # noqa: F811
        self.folder, self.patch, self.hub = folder, monkeypatch, hub
        self.places = Places(
            devices=folder / "dev",
            driver_version=folder / "driver_version",
            product_name=folder / "product_name",
            processes=folder / "proc",
            tools=folder / "tools",
        )
        for path in (self.places.devices, self.places.processes, self.places.tools, self.cache):
            path.mkdir()
        self.places.driver_version.write_text(f"{RELEASE.driver}\n")
        self.places.product_name.write_text("trn1.32xlarge\n")
        for number in range(16):
            (self.places.devices / f"neuron{number}").touch()
        self.listed()
        self.packages(PACKAGES)
        self.python(3, 11)
        self.free_memory(100 * GIB)
        self.free_disk(100 * GIB)
        compiler = folder / "tools" / "neuronx-cc"
        self._script(compiler, "")
        monkeypatch.setenv("PATH", str(folder / "tools"))
        monkeypatch.setenv("NEURON_COMPILE_CACHE_URL", str(self.cache))
        for name in ("NEURON_RT_NUM_CORES", "NEURON_RT_VISIBLE_CORES", "NEURON_CC_FLAGS", "NEURON_LOGICAL_NC_CONFIG"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(Needs, "of", classmethod(lambda _, instance: NEEDS))
        hub.create(MODEL, {"model_index.json": b"{}"})

    @property
    def cache(self) -> Path:
        return self.folder / "compile cache"

    def _script(self, path: Path, text: str) -> None:
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def listed(self, *processes: dict, device: int = 0) -> None:
        """Have `neuron-ls` show these processes on a device."""
        rows = [
            {"neuron_device": number, "bdf": "00:1e.0", "connected_to": None, "nc_count": 2, "memory_size": 32 * GIB}
            | {"neuron_processes": list(processes) if number == device else []}
            for number in range(16)
        ]
        (self.folder / "listing.json").write_text(json.dumps(rows))
        self._script(self.places.tools / "neuron-ls", f"exec /bin/cat '{self.folder / 'listing.json'}'")

    def packages(self, found: dict) -> None:
        self.patch.setattr(inventory, "_packages", lambda: dict(found))

    def python(self, *numbers: int) -> None:
        self.patch.setattr(inventory.sys, "version_info", (*numbers, 1))

    def free_memory(self, count: int) -> None:
        self.patch.setattr(inventory.psutil, "virtual_memory", lambda: SimpleNamespace(available=count))

    def free_disk(self, count: int) -> None:
        self.patch.setattr(resources.shutil, "disk_usage", lambda folder: SimpleNamespace(free=count))

    def diagnosis(self) -> Diagnosis:
        return diagnose(self.folder, places=self.places)


@pytest.fixture
def machine(tmp_path, monkeypatch, hub) -> Machine:  # noqa: F811
    folder = tmp_path / "machine"
    folder.mkdir()
    return Machine(folder, monkeypatch, hub)


def test_a_good_machine_is_ready(machine):
    found = machine.diagnosis()
    software = ["Python", "Neuron SDK", "torch", "packages", "compiler", "driver"]
    expected = [*software, "devices", "cores", "memory", "disk", "cache", "Hub"]
    assert [(what, each.verdict) for what, each in found.findings.items()] == [(what, "ok") for what in expected]
    assert found.conclusion == "ready" and found.ready
    assert found.host.cores == dict.fromkeys(range(16), 2)


def without(*names: str) -> dict:
    return {name: version for name, version in PACKAGES.items() if name not in names}


def hold(machine: Machine) -> None:
    machine.listed({"pid": 4711, "command": "/usr/bin/python3 /home/someone/serve.py --token abc"}, device=1)


def fill_cores(machine: Machine) -> None:
    """Without neuron-ls: whoever has the device file open."""
    (machine.places.tools / "neuron-ls").unlink()
    process = machine.places.processes / "812" / "fd"
    process.mkdir(parents=True)
    (process.parent / "cmdline").write_bytes(b"/usr/bin/python3\0-m\0ipykernel")
    os.symlink(machine.places.devices / "neuron3", process / "7")


def no_devices(machine: Machine) -> None:
    for device in machine.places.devices.iterdir():
        device.unlink()


def read_only_cache(machine: Machine) -> None:
    real = os.access
    machine.patch.setattr(
        resources.os, "access", lambda path, mode: False if Path(path) == machine.cache else real(path, mode)
    )


def no_hub(machine: Machine) -> None:
    machine.hub.faults += [Fault("status", "/api/models/*", status=401, times=9)]


BAD = {
    "python": (lambda m: m.python(3, 13), "Python", "make the environment with Python 3.10 to 3.11"),
    "sdk absent": (lambda m: m.packages(without(*inventory.SDK_PACKAGES)), "Neuron SDK", "activate the environment"),
    "sdk not whole": (lambda m: m.packages(without("libneuronxla")), "Neuron SDK", "pip install 'optimum-pixart-"),
    "sdk mixed": (
        lambda m: m.packages({**PACKAGES, "neuronx-distributed": "0.19.28492"}),
        "Neuron SDK",
        "pip install neuronx-distributed==0.15.22404",
    ),
    "torch": (lambda m: m.packages({**PACKAGES, "torch": "2.9.1"}), "torch", "pip install 'torch==2.8.*'"),
    "host": (lambda m: m.packages({**PACKAGES, "diffusers": "0.36.0"}), "packages", "pip install 'diffusers<0.36"),
    "no host": (lambda m: m.packages(without("optimum-neuron")), "packages", "pip install optimum-pixart-neuron"),
    "compiler": (lambda m: (m.places.tools / "neuronx-cc").unlink(), "compiler", "activate the environment, so that"),
    "no driver": (lambda m: m.places.driver_version.unlink(), "driver", "install aws-neuronx-dkms"),
    "old driver": (
        lambda m: m.places.driver_version.write_text("2.16.7.0\n"),
        "driver",
        "update aws-neuronx-dkms to 2.24.7.0 or later",
    ),
    "no devices": (no_devices, "devices", "load the driver"),
    "unknown machine": (
        lambda m: m.places.product_name.write_text("trn9.xlarge"),
        "devices",
        "name one that it knows",
    ),
    "held core": (hold, "cores", "end process 4711 (python3 serve.py), or set NEURON_RT_VISIBLE_CORES=4-31"),
    "held, without neuron-ls": (fill_cores, "cores", "end process 812 (python3)"),
    "too few cores": (lambda m: m.patch.setenv("NEURON_RT_NUM_CORES", "2"), "cores", "make 8 visible, or export with"),
    "wrong variable": (
        lambda m: m.patch.setenv("NEURON_RT_VISIBLE_CORES", "0-99"),
        "cores",
        "NEURON_RT_VISIBLE_CORES=0-99: trn1.32xlarge has cores 0-31",
    ),
    "memory": (lambda m: m.free_memory(4 * GIB), "memory", "end what holds it, or compile on a machine with more"),
    "disk": (lambda m: m.free_disk(30 * GIB), "disk", "free 11.0 GiB there"),
    "cache": (read_only_cache, "cache", "name another folder with NEURON_COMPILE_CACHE_URL"),
    "cache flag": (lambda m: m.patch.setenv("NEURON_CC_FLAGS", "--cache_dir '/a b"), "cache", "close the quote"),
    "hub": (no_hub, "Hub", "log in with `hf auth login`"),
}


@pytest.mark.parametrize("fault", BAD)
def test_what_is_wrong_is_named_with_the_one_thing_to_do(machine, fault):
    spoil, what, remedy = BAD[fault]
    spoil(machine)
    found = machine.diagnosis()
    assert [name for name, finding in found.findings.items() if finding.verdict == "BAD"] == [what]
    assert found.conclusion.startswith(f"not ready: {what}: ") and remedy in found.conclusion
    assert not found.ready and "\n" not in found.conclusion


def test_the_first_of_several_is_told(machine):
    machine.free_disk(0)
    machine.python(3, 9)
    assert machine.diagnosis().conclusion.startswith("not ready: Python: ")


@pytest.fixture
def laptop(machine) -> Machine:
    """Without SDK and devices; what needs are asked about is in `asked`."""
    machine.packages(without(*inventory.SDK_PACKAGES) | {"torch": "2.13.0+cpu"})
    no_devices(machine)
    machine.places.driver_version.unlink()
    machine.places.product_name.write_text("Laptop 13")
    machine.asked = []
    machine.patch.setattr(Needs, "of", classmethod(lambda _, instance: machine.asked.append(instance.name) or NEEDS))
    for name in ("NEURON_EMULATOR_INSTANCE", "NEURON_EMULATOR_SDK"):
        machine.patch.delenv(name, raising=False)
    return machine


@pytest.mark.parametrize(
    ("chosen", "instance"), [(None, "trn1.32xlarge"), ("inf2.xlarge", "inf2.xlarge"), ("trn2", "trn2.48xlarge")]
)
def test_the_emulator_is_looked_at_as_the_instance_that_it_is(laptop, chosen, instance):
    if chosen:
        laptop.patch.setenv("NEURON_EMULATOR_INSTANCE", chosen)
    devices = laptop.diagnosis().findings["devices"]
    assert devices.verdict == "note" and f"the emulator is a {instance}, and exports are compiled and" in devices.found
    diagnose(laptop.folder, places=laptop.places, instance=get_instance("inf2.8xlarge"))
    assert laptop.asked == [instance, "inf2.8xlarge"]


@pytest.mark.parametrize("variable", ["NEURON_EMULATOR_INSTANCE", "NEURON_EMULATOR_SDK"])
def test_what_the_emulator_does_not_know_is_named(laptop, variable):
    laptop.patch.setenv(variable, "inf9")
    found = laptop.diagnosis()
    assert found.conclusion.startswith(f"not ready: devices: {variable}: unknown ") and "'inf9'" in found.conclusion


def test_with_the_sdk_and_without_devices_nothing_is_emulated(laptop):
    laptop.packages(PACKAGES)
    laptop.patch.setenv("NEURON_EMULATOR_INSTANCE", "inf2.xlarge")
    assert "exports compile with --instance_type" in laptop.diagnosis().findings["devices"].found
    assert laptop.asked == ["trn1.32xlarge"]


def test_without_sdk_and_devices_it_is_the_emulator(laptop):
    found = laptop.diagnosis()
    assert found.conclusion == "ready, on the emulator: what is exported here runs on no Neuron device"
    assert found.ready and "the emulator stands in" in str(found.findings)


def test_a_process_on_other_cores_is_no_trouble(machine):
    hold(machine)  # cores 2 and 3
    machine.patch.setenv("NEURON_RT_VISIBLE_CORES", "8-15")
    assert machine.diagnosis().conclusion == "ready"


def test_the_compile_cache_is_the_one_that_the_export_takes(machine):
    machine.patch.delenv("NEURON_COMPILE_CACHE_URL")
    machine.patch.setenv("NEURON_CC_FLAGS", f"-O1 --cache_dir '{machine.cache}'")  # with a space
    assert machine.diagnosis().findings["cache"].found == f"0 programs in {machine.cache}"


@pytest.mark.parametrize("text", ["", "{", '{"a": 1}', '[1, {"neuron_device": "x"}]', '[{"neuron_device": 0}]'])
def test_a_listing_of_another_form_is_no_listing(machine, text):
    (machine.folder / "listing.json").write_text(text)
    assert machine.diagnosis().conclusion == "ready"


def test_a_download_that_is_there_needs_neither_hub_nor_room(machine):
    from huggingface_hub import constants

    blobs = Path(constants.HF_HUB_CACHE) / f"models--{MODEL.replace('/', '--')}" / "blobs"
    blobs.mkdir(parents=True)
    with (blobs / "weights").open("wb") as file:
        file.truncate(20 * GIB)  # of no blocks
    machine.free_disk(22 * GIB)
    no_hub(machine)
    found = machine.diagnosis()
    assert found.conclusion == "ready"
    assert [what for what, finding in found.findings.items() if finding.verdict == "note"] == ["Hub"]


@pytest.mark.parametrize("release", SDK_RELEASES.values(), ids=SDK_RELEASES)
def test_every_listed_release_is_recognised(machine, release):
    machine.packages({**PACKAGES, **release.versions})
    machine.python(3, 11)
    machine.places.driver_version.write_text(release.driver)
    found = machine.diagnosis()
    assert found.conclusion == "ready" and release_of(release.versions) is release
    assert found.findings["Neuron SDK"].found.startswith(release.name)


def test_an_unlisted_release_is_a_note(machine):
    machine.packages({**PACKAGES, "neuronx-cc": "2.99.1.0"})
    assert machine.diagnosis().conclusion == "ready"


@pytest.mark.soak
def test_the_planners_figures_of_the_released_model():
    needs = Needs.of(get_instance("trn1.32xlarge"))
    assert needs.ranks == 8
    assert 21.5e9 < needs.checkpoint < 22e9, "T5-XXL, XL/2 and the VAE's decoder in float32"
    assert needs.export > 8 * 1.2e9 + 9.5e9, "a copy of the transformer for each rank, and the whole text encoder"


def test_the_planner_is_asked(monkeypatch):
    """By stand-ins for its rows: four ranks share the text encoder, and each has a copy of the transformer."""
    from optimum_pixart_neuron.planner import prediction

    class Deployment(SimpleNamespace):
        def mode_of(self, component):
            return SimpleNamespace(ranks=4)

    def predict(request, instance):
        weights = (3, 5) if request.torch_dtype == "bfloat16" else (24, 10)
        parts = [
            SimpleNamespace(component=SimpleNamespace(name=name), cost=SimpleNamespace(weights=size, activations=5))
            for name, size in zip("ab", weights)
        ]
        return SimpleNamespace(components=parts, deployment=Deployment(ranks=4))

    monkeypatch.setattr(prediction, "predict", predict)
    needs = Needs.of(get_instance("trn1.32xlarge"))
    assert (needs.ranks, needs.checkpoint, needs.export, needs.memory) == (4, 34, 32, 37)


# The bundle


def test_a_bundle_holds_no_secrets(machine, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijklmnop")
    monkeypatch.setenv("NEURON_CC_FLAGS", "--cache_dir=/home/somebody/cache --token=hf_abcdefghijklmnop")
    monkeypatch.setenv("HF_ENDPOINT_KEY", "12345678")
    monkeypatch.setenv("HF_HOME", "/home/somebody/hf")
    monkeypatch.setenv("BANK_ACCOUNT", "nobody's business")
    monkeypatch.setenv("NEURON_PROXY", "http://me:pass@proxy")
    monkeypatch.setattr(bundles, "_user", lambda: "somebody")
    hold(machine)
    log = machine.folder / "out.failed-compilation.txt"
    log.write_text("reading /home/another/x with hf_abcdefghijklmnop\n12345678 AKIAABCDEFGHIJKLMNOP somebody\n")
    text = bundles.bundle(machine.diagnosis(), machine.folder).decode()
    content = json.loads(text)
    for secret in ("hf_abc", "12345678", "somebody", "/home/", "me:pass", "BANK", "AKIA", "another"):
        assert secret not in text, secret
    assert content["conclusion"].startswith("not ready: cores: end process 4711 (python3 serve.py)")
    assert content["packages"]["neuronx-cc"] == "2.21.33363.0" and content["driver"] == RELEASE.driver
    assert content["environment"]["HF_HOME"] == "~/hf" and content["environment"]["HF_TOKEN"] == "***"
    assert content["logs"][log.name][0] == "reading ~/x with ***"
    assert "--token" not in json.dumps(content["holders"])


def test_commands_are_told_without_their_arguments():
    assert inventory._command("/usr/bin/python3 -c secret") == "python3"
    assert inventory._command("/opt/x/vllm serve --api-key y") == "vllm serve"
    assert inventory._command(None) == "?" and len(inventory._command("a" * 999)) < 70


# The command


@pytest.fixture
def found(monkeypatch):
    def find(finding: Finding) -> None:
        seen = SimpleNamespace(python=(3, 11, 1), packages={}, instance=None, driver=None, devices=(), cores={})
        seen.has_sdk = True
        seen.holders, seen.environment = (Holder(process=1, command="x", device=0),), {}
        diagnosis = Diagnosis(host=seen, findings={"disk": finding})
        monkeypatch.setattr(examined, "diagnose", lambda *_, **__: diagnosis)

    return find


def test_the_command_ends_with_the_sentence_and_its_status(found, capsys, tmp_path):
    found(Finding("[full]", remedy="free it"))
    assert COMMAND.main(["--bundle", str(tmp_path / "bundle.json")]) == 1
    shown = capsys.readouterr().out.splitlines()
    assert shown[-1] == "not ready: disk: free it" and any("BAD" in line and "[full]" in line for line in shown)
    assert json.loads((tmp_path / "bundle.json").read_text())["findings"][0]["verdict"] == "BAD"
    found(Finding("empty"))
    assert COMMAND.main(["--output", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "ready"


def test_flags_that_cannot_be(capsys, tmp_path):
    assert COMMAND.main(["--instance_type", "trn9"]) == 2
    assert "--instance_type trn9: unknown instance" in capsys.readouterr().err
    assert COMMAND.main(["--bundle", str(tmp_path)]) == 2
    assert "is a folder; name a file in it" in capsys.readouterr().err


def test_the_help_imports_nothing_heavy():
    code = (
        "import sys; from optimum_pixart_neuron.commands.pixart_doctor import COMMAND;"
        "print([name for name in ('torch', 'diffusers', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
