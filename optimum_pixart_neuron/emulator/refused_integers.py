"""What the compiler of the emulated release refuses: some operations on 64-bit integers."""

from torch import Tensor, fx

from ..aten_graph import int64_kind
from ..hardware.sdk_releases import NATIVE_INT64
from .release import emulated_release


def check_integers(graph: fx.GraphModule, arguments: str, collectives: str) -> None:
    """Refuse what the compiler of this release refuses: some operations on 64-bit integers.

    Args:
        graph: of a traced program.
        arguments: of the compiler.
        collectives: namespace of the collectives among its operations.

    Raises:
        RuntimeError: names the operation and the release.
    """
    release = emulated_release()
    if not release.announced_errors or NATIVE_INT64 in arguments.split():
        return
    for node in graph.graph.nodes:
        kind = int64_kind(node) or _collective(node, collectives)
        if kind in release.announced_errors:
            raise RuntimeError(
                f"neuronx-cc (emulated, SDK {release.name}): {node.target} on 64-bit integers ({kind}) is not"
                f" supported; use 32 bits, or {NATIVE_INT64}"
            )


def _collective(node: fx.Node, namespace: str) -> str | None:
    value = node.meta.get("val")
    is_int64 = isinstance(value, Tensor) and value.dtype.itemsize == 8 and not value.dtype.is_floating_point
    return "collective" if is_int64 and getattr(node.target, "namespace", "") == namespace else None
