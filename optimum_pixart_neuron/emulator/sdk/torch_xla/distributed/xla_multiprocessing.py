"""Emulated torch_xla.distributed.xla_multiprocessing."""

from collections.abc import Callable


def spawn(
    fn: Callable[..., None],
    args: tuple = (),
    nprocs: int | None = None,
    join: bool = True,
    daemon: bool = False,
    start_method: str = "spawn",
) -> None:
    """Run `fn(0, *args)` here for one process; RuntimeError for more, which only training needs."""
    if nprocs not in (None, 1):
        raise RuntimeError(f"xmp.spawn of {nprocs} processes is not emulated: build a sharded model with ModelBuilder")
    fn(0, *args)
