"""Files that were damaged: in an export, under one that is replaced, in a download cache, in what an interrupted
export has finished, and in the checkpoint."""

import random
import shutil
from pathlib import Path

from optimum_pixart_neuron.artifact.manifest import MANIFEST_FILE, Manifest

from ..hub.fake_hub import FakeHub
from . import actions
from .stage import Stage
from .undisturbed import content, fill_with_good

PLACES = ("export", "cache", "export", "unfinished", "export", "cache", "export", "replaced", "checkpoint", "export")
"""Where the file lies, by the number of the fault. Exports most: they are copied about."""

_WEIGHTS = "diffusion_pytorch_model.safetensors"


def truncate(path: Path, numbers: random.Random) -> None:
    """Cut a file off at a random byte."""
    with path.open("r+b") as file:
        file.truncate(numbers.randrange(path.stat().st_size))


def flip(path: Path, numbers: random.Random) -> None:
    """Change a random bit of a file."""
    content = bytearray(path.read_bytes())
    bit = numbers.randrange(8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def remove(path: Path, numbers: random.Random) -> None:
    """Remove a file, or now and then its whole folder."""
    if numbers.random() < 0.2 and path.parent.name in ("weights", "tokenizer", "scheduler"):
        shutil.rmtree(path.parent)
    else:
        path.unlink()


DAMAGES = {"truncated": truncate, "flipped": flip, "removed": remove}


def damage(stage: Stage) -> str:
    """Damage one file, see that it is found by name, mend it by the next run."""
    place = PLACES[stage.fault.number]
    if (stage.fault.kind, place) == ("flipped", "checkpoint"):
        place = "export"  # nothing says what a checkpoint's weights should be
    with stage.keeping():
        {
            "export": _in_export,
            "replaced": _in_replaced,
            "cache": _in_cache,
            "unfinished": _in_unfinished,
            "checkpoint": _in_checkpoint,
        }[place](stage)
    return f"found in {place}"


def _in_export(stage: Stage) -> None:
    folder = stage.bring(stage.undisturbed.export)
    _damage_and_check(stage, folder)
    shutil.rmtree(folder)
    stage.check_good(stage.bring(stage.undisturbed.export))


def _in_replaced(stage: Stage) -> None:
    """A damaged export is an export still, which --force replaces."""
    _damage_and_check(stage, stage.bring(stage.undisturbed.export), but=MANIFEST_FILE)
    stage.check_recovers(force=True)


def _damage_and_check(stage: Stage, folder: Path, but: str | None = None) -> None:
    numbers = stage.fault.random
    names = sorted(set(content(folder)) - {but})
    name = numbers.choice(names)
    DAMAGES[stage.fault.kind](folder / name, numbers)
    found = stage.succeed(actions.verdicts, folder).result
    must = ["full"] if stage.fault.kind == "flipped" else ["full", "sizes"]
    if name == MANIFEST_FILE:
        # Without it nothing but the headers tells; with it read as it was, nothing is damaged.
        must = ["full"] if not (folder / name).exists() else must
        if (folder / name).exists() and found["full"] is None:
            assert Manifest.read(folder) == stage.undisturbed.manifest
            return
    for verify in must:
        assert found[verify] and "\n" not in found[verify], f"{stage.fault}: verify={verify!r} accepts {name}"
        assert name in found[verify] or name.split("/")[0] + "/" in found[verify], found


def _in_cache(stage: Stage) -> None:
    undisturbed, numbers = stage.undisturbed, stage.fault.random
    with FakeHub() as hub:
        fill_with_good(hub, undisturbed.former, undisturbed.export)
        client = actions.HubClient(hub.url, stage.folder / "home")
        folder = stage.succeed(actions.pull, client, {}).result
        name = numbers.choice(sorted(content(undisturbed.export)))
        link, content_file = folder / name, (folder / name).resolve()
        if stage.fault.kind == "removed":
            link.unlink()
            if numbers.random() < 0.5:
                content_file.unlink()
        else:
            DAMAGES[stage.fault.kind](content_file, numbers)
        offline = stage.run(actions.pull, client, {"local_files_only": True})
        assert offline.error in ("HubError", "ArtifactError") and name in offline.message, offline
        stage.check_good(stage.succeed(actions.pull, client, {}).result)
        assert content(folder) == content(undisturbed.export)


def _in_unfinished(stage: Stage) -> None:
    """What an interrupted export has finished; the next run compiles the damaged component again."""
    numbers = stage.fault.random
    shutil.copytree(stage.undisturbed.unfinished, stage.output.parent, dirs_exist_ok=True)
    artifacts = stage.output.with_name(".out.partial") / "artifacts"
    parts = [name for name in sorted(content(artifacts)) if name.startswith(("text_encoder/", "transformer/"))]
    name = numbers.choice([part for part in parts if not part.endswith("config.json")])
    DAMAGES[stage.fault.kind](artifacts / name, numbers)
    again = stage.succeed(actions.export, stage.options)
    kept = {line.split()[1][:-1] for line in again.output.splitlines() if "kept from the interrupted export" in line}
    assert kept == {"text_encoder", "transformer"} - {name.split("/")[0]}
    stage.check_good(stage.output)
    stage.check_nothing_hidden()


def _in_checkpoint(stage: Stage) -> None:
    """A weight file of the user's that is cut off or gone: refused by name, and nothing is left behind."""
    numbers = stage.fault.random
    checkpoint = Path(shutil.copytree(stage.undisturbed.checkpoint, stage.folder / "checkpoint"))
    path = numbers.choice(sorted(checkpoint.rglob("*.safetensors")))
    DAMAGES[stage.fault.kind](path, numbers)
    refused = stage.run(actions.export, {**stage.options, "model": str(checkpoint)})
    assert refused.error == "CheckpointError" and "\n" not in refused.message, refused
    assert path.name in refused.message or f"{path.parent.name}/" in refused.message, refused
    assert not stage.output.exists() and not stage.output.with_name(".out.partial").exists()
    stage.check_recovers()


def foreign(stage: Stage) -> str:
    """Put a whole file in the place of another, or beside those that belong there."""
    numbers = stage.fault.random
    folder = stage.bring(stage.undisturbed.export)
    shards = sorted(folder.glob("*/weights/*.safetensors"))
    programs = sorted(folder.glob("*/model.neuron"))
    shard, program = numbers.choice(shards), numbers.choice(programs)
    former = stage.undisturbed.former / "transformer"
    source, target = (
        (shard.with_name(_other(shard.name)), shard),
        (shard, shard.with_name("tp2_sharded_checkpoint.safetensors")),
        (numbers.choice([other for other in programs if other != program]), program),
        (former / "weights" / shard.name, folder / "transformer" / "weights" / shard.name),
    )[stage.fault.number]
    with stage.keeping():
        shutil.copyfile(source, target)
        found = stage.succeed(actions.verdicts, folder).result
        name = target.relative_to(folder).as_posix()
        for verify, message in found.items():
            assert message and name in message, f"{stage.fault}: verify={verify!r}: {message}"
        stage.succeed(actions.verdicts, stage.undisturbed.export)
        shutil.rmtree(folder)
        stage.check_good(stage.bring(stage.undisturbed.export))
    return "found"


def _other(shard: str) -> str:
    return shard.replace("tp0", "tp1") if shard.startswith("tp0") else shard.replace("tp1", "tp0")
