"""The Ray Serve application: one deployment an export, and the ingress that speaks HTTP.

`build` is also what a Serve configuration names as `import_path`, as in `examples/serve/`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ray import serve
from ray.serve import Application

from ..exported import Exported
from ..ray_session import CORES, cores_of_nodes
from .api import Api
from .model import Model
from .opened import open_all, read_keys
from .options import ServeOptions
from .places import count_replicas
from .replica import RemoteEngine, Replica

INGRESS = "api"
_HEALTH_PERIOD_S = 1.0
_MOST_ONGOING = 1_000_000
"""Ray Serve's own limits are out of the way: the ingress refuses what is too much, with the right answer."""


@serve.deployment(name=INGRESS, num_replicas=1, ray_actor_options={"num_cpus": 0}, max_ongoing_requests=_MOST_ONGOING)
@serve.ingress()
class _Ingress:
    """One process in front of all replicas: it counts the requests of each export, and keeps images for an hour."""

    def __init__(
        self, options: ServeOptions, keys: Sequence[str], exports: Mapping[str, Exported], **handles: Any
    ) -> None:
        models = {
            name: Model(exported, RemoteEngine(handles[_key(i)])) for i, (name, exported) in enumerate(exports.items())
        }
        self._api = Api(models, options)
        self._options, self._keys = options, keys
        self._exports = exports

    def __serve_build_asgi_app__(self) -> Any:
        app = self._api.routes(self._keys)
        if not self._options.no_page:
            from .page import add_page

            app = add_page(app, list(self._exports.values()), self._options, asks_for_key=bool(self._keys))
        return app

    async def drain(self, seconds: float) -> bool:
        """See `Api.drain`."""
        return await self._api.drain(seconds)


def build(arguments: dict[str, Any]) -> Application:
    """The application of these `ServeOptions`, on the cluster that this process is in.

    Raises:
        PixArtNeuronError: an export that cannot be served, or fewer cores than the replicas need.
    """
    options = ServeOptions(**arguments)
    return build_of(options, open_all(options), read_keys(options))


def build_of(options: ServeOptions, exports: Mapping[str, Exported], keys: Sequence[str]) -> Application:
    """The application of exports and keys that are read already."""
    count = count_replicas(options, list(exports.values()), cores_of_nodes())
    handles = {
        _key(number): _deployment(number, exported, options, count) for number, exported in enumerate(exports.values())
    }
    ingress: Any = _Ingress  # a deployment, which type checkers take for the class
    return ingress.bind(options, list(keys), dict(exports), **handles)


def _deployment(number: int, exported: Exported, options: ServeOptions, count: int) -> Application:
    scaling: dict[str, Any] = {"num_replicas": count}
    if options.max_replicas is not None:
        scaling = {
            "autoscaling_config": {
                "min_replicas": count,
                "max_replicas": options.max_replicas,
                "target_ongoing_requests": exported.batch,
            }
        }
    deployment = serve.deployment(
        Replica,
        name=_key(number),
        ray_actor_options={"num_cpus": 0, "resources": {CORES: exported.cores}},
        max_ongoing_requests=_MOST_ONGOING,
        health_check_period_s=_HEALTH_PERIOD_S,
        graceful_shutdown_timeout_s=options.drain_timeout / 4,
        graceful_shutdown_wait_loop_s=0.1,
        **scaling,
    )
    return deployment.bind(exported)


def _key(number: int) -> str:
    """Name of a deployment; the names of exports have characters that Ray Serve would not take."""
    return f"export_{number}"
