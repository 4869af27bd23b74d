"""LoRAs of the Hub: what is downloaded of a repository, of which commit, and what is said where there is none."""

import pytest

from optimum_pixart_neuron.checkpoint.adapters import geometry_of, open_adapter
from optimum_pixart_neuron.checkpoint.open import open_checkpoint, open_part
from optimum_pixart_neuron.checkpoint.options import CheckpointOptions
from optimum_pixart_neuron.errors import CheckpointError

from ..hub.conftest import hub  # noqa: F401
from .adapters import matrices, merged_by_hand, weights_of, write_diffusers, write_kohya, write_peft
from .test_adapters import assert_merged, opened

pytestmark = pytest.mark.usefixtures("hub")
MODULES = ("proj_out", "transformer_blocks.0.attn1.to_q")
STYLE = "team/style"


def files_of(folder, below: str = "") -> dict[str, bytes]:
    return {f"{below}{path.name}": path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def plain(tiny_checkpoint):
    return weights_of(tiny_checkpoint)


@pytest.fixture
def style(hub, plain, tmp_path):  # noqa: F811
    """A repository of peft's, with what its authors put beside it; matrices, and the repository."""
    made = matrices(plain, MODULES)
    beside = {"README.md": b"---\n---\n", "optimizer.bin": b"\0" * 64, "checkpoint-500/optimizer.bin": b"\0" * 64}
    return made, hub.create(STYLE, files_of(write_peft(tmp_path / "style", made, lora_alpha=2)) | beside)


def test_a_repository_is_merged_of_its_commit(hub, style, tiny_checkpoint, plain):  # noqa: F811
    made, repository = style
    checkpoint = opened(tiny_checkpoint, STYLE, lora_scales=[0.5])
    assert_merged(checkpoint, merged_by_hand(plain, made, 0.5 * 0.5))
    assert hub.downloads() == ["adapter_config.json", "adapter_model.safetensors"]
    (named,) = checkpoint.adapters
    assert (named.model, named.revision, named.file) == (
        STYLE,
        repository.refs["main"],
        "adapter_model.safetensors",
    )


def test_a_revision_a_folder_and_a_file(hub, style, tiny_checkpoint, plain, tmp_path):  # noqa: F811
    """The branch has no LoRA any more; the tag has two files of one name in two folders."""
    made, other = style[0], matrices(plain, MODULES, seed=1)
    write_kohya(tmp_path / "kohya" / "first.safetensors", made)
    write_kohya(tmp_path / "kohya" / "second.safetensors", other)
    repository = hub.create("team/many", files_of(tmp_path / "kohya", "sigma/"))
    repository.refs["v1"] = repository.refs["main"]
    repository.commit(hub.stored({"README.md": b""}), "gone")
    for named, options in (
        ("team/many@v1/sigma", {"lora_weight_names": ["second.safetensors"]}),
        ("team/many@v1/sigma/second.safetensors", {}),
    ):
        checkpoint = opened(tiny_checkpoint, named, **options)
        assert_merged(checkpoint, merged_by_hand(plain, other, 1.0))
        assert checkpoint.adapters[0].file == "sigma/second.safetensors"
    assert hub.downloads() == ["sigma/second.safetensors"]
    with pytest.raises(CheckpointError, match=r"holds several files of weights; name one \(found first.*, second"):
        opened(tiny_checkpoint, "team/many@v1/sigma")
    with pytest.raises(CheckpointError, match="--lora_model_ids team/many holds no .safetensors file"):
        opened(tiny_checkpoint, "team/many")


def test_a_revision_of_load_lora_weights(hub, style, tiny_checkpoint):  # noqa: F811
    """diffusers' argument: the id has none of its own."""
    repository = style[1]
    first = repository.refs["main"]
    repository.commit(hub.stored({"README.md": b""}), "gone")
    options = CheckpointOptions(model=STYLE)
    geometry = geometry_of(
        {"transformer": open_checkpoint(CheckpointOptions(model=str(tiny_checkpoint))).config("transformer")}
    )
    named = open_adapter("load_lora_weights:", STYLE, None, options, geometry, name="style", revision=first)
    assert named.revision == first and set(named.adapter.changes) == {"transformer"}
    with pytest.raises(CheckpointError, match="load_lora_weights: revision v9 does not exist in team/style"):
        open_adapter("load_lora_weights:", STYLE, None, options, geometry, name="style", revision="v9")


@pytest.mark.seconds
def test_without_network_the_cache_serves(hub, style, tiny_checkpoint, plain):  # noqa: F811
    with pytest.raises(
        CheckpointError, match=r"--local_files_only is given, and the download cache .* lacks team/style"
    ):
        opened(tiny_checkpoint, STYLE, local_files_only=True)
    opened(tiny_checkpoint, STYLE)
    asked = len(hub.requests)
    expected = merged_by_hand(plain, style[0], 0.5)
    assert_merged(opened(tiny_checkpoint, STYLE, local_files_only=True), expected)
    assert len(hub.requests) == asked
    hub.stop()
    assert_merged(opened(tiny_checkpoint, STYLE), expected)


@pytest.mark.parametrize(
    ("repository", "message"),
    [
        ("nobody/nothing", "--lora_model_ids nobody/nothing: no such folder, and .*"),
        ("other/gated", "--lora_model_ids other/gated: .*"),
        ("team/pickled", "pytorch_lora_weights.bin is pickled, and pickled files can run code"),
        ("team/empty", "--lora_model_ids team/empty holds no .safetensors file; name one"),
        ("team/foreign", "is for a module that the .* has not"),
    ],
)
def test_repositories_that_hold_no_lora(hub, tiny_checkpoint, plain, tmp_path, repository, message):  # noqa: F811
    hub.create("other/gated", {"adapter_model.safetensors": b""}, gated=True)
    hub.create("team/pickled", {"pytorch_lora_weights.bin": b"\x80"})
    hub.create("team/empty")
    foreign = {f"down_blocks.{name}": pair for name, pair in matrices(plain, MODULES).items()}
    hub.create("team/foreign", files_of(write_diffusers(tmp_path / "foreign", foreign)))
    with pytest.raises(CheckpointError, match=message) as refused:
        opened(tiny_checkpoint, repository)
    assert "\n" not in str(refused.value)
    assert "pytorch_lora_weights.bin" not in hub.downloads()


def test_another_transformer_of_the_hub(hub, tiny_checkpoint, plain):  # noqa: F811
    """As `load_transformer` has it; of a pipeline nothing else is downloaded."""
    transformer = files_of(tiny_checkpoint / "transformer", "transformer/")
    repository = hub.create("team/tuned", transformer | files_of(tiny_checkpoint / "vae", "vae/"))
    repository.refs["v1"] = repository.refs["main"]
    repository.commit(hub.stored({"README.md": b""}), "gone")
    named = "team/tuned@v1"
    config, weights = open_part("transformer", CheckpointOptions(model=named, transformer=named))
    assert hub.downloads() == sorted(transformer)
    assert config["_class_name"] == "PixArtTransformer2DModel"
    assert {name: tuple(each.shape) for name, each in plain.items()} == {
        name: weights.shape(name) for name in weights.files
    }
    with pytest.raises(CheckpointError, match="--transformer"):
        open_part("transformer", CheckpointOptions(model="team/tuned", transformer="team/tuned"))
