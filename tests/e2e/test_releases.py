"""An export, a load and a picture with the emulator as each later release of the SDK."""

import pytest

from optimum_pixart_neuron.artifact.manifest import Manifest
from optimum_pixart_neuron.errors import ArtifactError
from optimum_pixart_neuron.hardware.sdk_releases import DEFAULT_RELEASE, SDK_RELEASES

from ..parity import psnr
from .conftest import export_to, load_ours, pictures

pytestmark = [pytest.mark.e2e, pytest.mark.ranks]


@pytest.mark.parametrize("name", [name for name in SDK_RELEASES if name != DEFAULT_RELEASE])
def test_it_exports_loads_and_draws(name, monkeypatch, tiny_checkpoint, tmp_path, reference_images):
    monkeypatch.setenv("NEURON_EMULATOR_SDK", name)
    options = {"tensor_parallel_size": 2, "torch_dtype": "float32", "vae_parallel": "one"}
    folder = export_to(tmp_path / "pipeline", tiny_checkpoint, **options)
    versions = Manifest.read(folder).versions
    release = SDK_RELEASES[name]
    assert versions["neuronx-cc"] == f"{release.versions['neuronx-cc']}+emulated"
    assert psnr(pictures(load_ours(folder)), reference_images) > 60
    monkeypatch.setenv("NEURON_EMULATOR_SDK", DEFAULT_RELEASE)
    with pytest.raises(ArtifactError, match="it is compiled with neuronx-cc .*, and .* is installed; update the Neu"):
        load_ours(folder)
