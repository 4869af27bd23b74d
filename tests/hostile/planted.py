"""Cases that hope for their code to be run: by a name, as a file of a known name, or beside everything else."""

import json
import pickle

from .bases import CHECKPOINT
from .ground import INDEX, Ground

_CLASSES = (
    *(("evil", "Evil"), ("diffusers", "DiffusionPipeline"), ("diffusers", "pipelines"), ("os", "system")),
    *(("builtins", "exec"), ("optimum.neuron", "NeuronPixArtSigmaPipeline"), ("transformers", "AutoTokenizer")),
    *(("transformers", "pipeline"), ("scheduler", "Evil"), ("..evil", "Evil"), ("/tmp/evil", "Evil"), ("", "")),
    *(("diffusers", "AutoPipelineForText2Image"), ("diffusers.utils", "get_class_from_dynamic_module")),
    *(("pixart\x1b[2J", "Evil\n"), ("diffusers", "FlaxDDIMScheduler"), ("diffusers", "__class__")),
)
_NO_NAMES = ([], ["evil"], [1, 2], [["evil"], "Evil"], ["evil", {"a": 1}], ["e" * 9999, "Evil"])
_OTHERS = ("feature_extractor", "tokenizer_2", "safety_checker", "image_encoder", "unet", "../evil", "a\x1b[0m", "")
_FOREIGN_FOLDERS = ("unet", "controlnet", "controlnet_evil", "text_encoder_2", "image_encoder", "prior")
_MODULES = ("json", "torch", "secrets", "evil", "sitecustomize", "optimum", "transformers", "pipeline", "__init__")
_PLACES = ("", "tokenizer/", "scheduler/", "transformer/", "text_encoder/", "transformer/weights/")


class _Calls:
    """An object whose pickle runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple:
        import os

        return os.system, (self.command,)


def class_of_a_copied_part(ground: Ground) -> None:
    name = ground.choose("scheduler", "tokenizer")
    ground.rewrite(INDEX, **{name: list(ground.choose(*_CLASSES))})
    for place in ("", f"{name}/"):
        ground.write(f"{place}evil.py", ground.code)
    evil = {"_class_name": ["evil", "Evil"], "unet": ["evil", "Evil"]}
    ground.write(f"{name}/{INDEX}", json.dumps(evil))


def class_that_is_no_name(ground: Ground) -> None:
    name = ground.choose("scheduler", "tokenizer", "transformer")
    ground.rewrite(INDEX, **{name: ground.choose(*_NO_NAMES)})


def class_of_a_compiled_part(ground: Ground) -> None:
    """Which nothing goes by."""
    name = ground.choose("transformer", "vae", "text_encoder")
    ground.rewrite(INDEX, **{name: list(ground.choose(*_CLASSES))})
    ground.write("evil.py", ground.code)


def class_of_the_pipeline(ground: Ground) -> None:
    name = ground.choose("evil.Evil", ["evil", "Evil"], ["pipeline", "Evil"], 7, "", {"a": 1}, None, "StableDiffusion")
    ground.rewrite(INDEX, _class_name=name, _module="evil")
    for module in ("evil", "pipeline", "model_index"):
        ground.write(f"{module}.py", ground.code)


def component_more(ground: Ground) -> None:
    name = ground.choose(*_OTHERS)
    ground.rewrite(INDEX, **{name: list(ground.choose(*_CLASSES[:9]))})
    if name.isidentifier():
        ground.write(f"{name}/evil.py", ground.code)
        ground.write(f"{name}/config.json", json.dumps({"_class_name": ["evil", "Evil"], "auto_map": {"a": "evil.b"}}))


def folder_more(ground: Ground) -> None:
    """Of what optimum-neuron loads beside PixArt's own components."""
    name = ground.choose(*_FOREIGN_FOLDERS)
    component = ground.choose(*ground.components)
    for file in (ground.folder / component).iterdir():
        if file.is_file():
            ground.write(f"{name}/{file.name}", file.read_bytes())
    ground.write(f"{name}/evil.py", ground.code)


def auto_map(ground: Ground) -> None:
    evil = {"AutoTokenizer": ["evil.Evil", "evil.Evil"], "AutoConfig": "evil.Evil", "AutoModel": "me/repo--evil.Evil"}
    ground.rewrite("tokenizer/tokenizer_config.json", auto_map=ground.choose(evil, "evil.Evil", ["evil"], {}))
    ground.write("tokenizer/config.json", json.dumps({"auto_map": evil, "model_type": "evil"}))
    for place in ("", "tokenizer/"):
        ground.write(f"{place}evil.py", ground.code)


def class_in_a_configuration(ground: Ground) -> None:
    """With the library and the class that transformers and diffusers look for there."""
    name = ground.choose("scheduler/scheduler_config.json", *(f"{each}/config.json" for each in ground.components))
    changes = ground.choose(
        *({"_class_name": "evil.Evil"}, {"_class_name": ["evil", "Evil"]}, {"auto_map": {"AutoConfig": "evil.Evil"}}),
        *({"model_type": "evil"}, {"model_type": ["t5"]}, {"architectures": ["evil.Evil"]}, {"_module": "evil"}),
        *({"quantization_config": {"quant_method": "evil"}}, {"attn_implementation": "evil/kernel"}),
        *({"custom_pipeline": "evil"}, {"neuron": "evil"}, {"neuron": ["evil"]}, {"neuron": {"model_type": "evil"}}),
    )
    ground.rewrite(name, **changes)
    ground.write(f"{name.split('/')[0]}/evil.py", ground.code)


def code_beside(ground: Ground) -> None:
    """Files that nobody names; the folder is the current one when it is loaded."""
    for _ in range(6):
        ground.write(f"{ground.choose(*_PLACES)}{ground.choose(*_MODULES)}.py", ground.code)
    ground.write(f"tokenizer/{ground.choose('config.json', INDEX, 'chat_template.jinja')}", '{"auto_map": {}}')


def code_listed(ground: Ground) -> None:
    """In the manifest, with its right digest."""
    name = ground.choose(*_PLACES[:5]) + ground.choose(*_MODULES) + ground.choose(".py", ".pyc", ".so", ".sh", "")
    ground.write(name, ground.code)
    ground.seal(name)


def pickled_weights(ground: Ground) -> None:
    component = ground.choose(*ground.components)
    for name in ground.weights:
        if name.startswith(f"{component}/"):
            ground.remove(name)
    stem = ground.choose("pytorch_model.bin", "diffusion_pytorch_model.bin", "model.ckpt", "model.pt", "model.pkl")
    ground.write(f"{component}/{stem}", pickle.dumps(_Calls(f"echo ran > {ground.victim}")))


def pickles_under_known_names(ground: Ground) -> None:
    names = [*ground.weights, "tokenizer/spiece.model", "scheduler/scheduler_config.json", INDEX]
    if ground.target != CHECKPOINT:
        names += [f"{component}/model.neuron" for component in ground.components]
    ground.write(ground.choose(*names), pickle.dumps(_Calls(f"echo ran > {ground.victim}")))
