"""`push_to_hub` as optimum-neuron has it, of a folder, and as diffusers has it, of a loaded pipeline."""

from types import MethodType
from typing import Any

from ..artifact.push import push
from ..errors import InvalidArgument
from .arguments import named, unknown_arguments

_FOLDER, _REPOSITORY, *_OPTIONS = [name for name in named(push) if name != "changed"]


def push_loaded(pipeline: Any, *args: Any, **kwargs: Any) -> str:
    """Upload a loaded pipeline, or a folder, to the Hugging Face Hub.

    `push_to_hub("me/pixart")`, as diffusers has it, uploads the pipeline with the scheduler that it has now;
    `push_to_hub("folder/", "me/pixart")`, as optimum-neuron has it, uploads a folder. Further arguments by name:
    private, revision, token, endpoint, commit_message, allow_emulated; see `artifact.push.push`.

    Returns:
        the address of the commit.

    Raises:
        InvalidArgument: an argument that there is not.
        HubError: it cannot be pushed.
        ArtifactError: the folder is no whole export.
    """
    if len(args) > 1 or _FOLDER in kwargs or (args and _REPOSITORY in kwargs):
        return push(*args, **kwargs)
    unknown = [name for name in kwargs if name not in ("repo_id", _REPOSITORY, *_OPTIONS)]
    if unknown:
        raise InvalidArgument(unknown_arguments(unknown, ("repo_id", *_OPTIONS), of="push_to_hub"))
    named_repositories = [*args, *(kwargs.pop(name) for name in ("repo_id", _REPOSITORY) if name in kwargs)]
    if len(named_repositories) != 1:
        raise InvalidArgument("push_to_hub: name one repository, as in push_to_hub('me/pixart')")
    return push(pipeline.model_save_dir, named_repositories[0], changed=pipeline.changed_files(), **kwargs)


class PushToHub:
    """The method, which a class has without a pipeline too."""

    def __get__(self, pipeline: Any, owner: type | None = None) -> Any:
        return push if pipeline is None else MethodType(push_loaded, pipeline)
