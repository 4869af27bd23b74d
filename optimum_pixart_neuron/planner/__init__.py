"""Memory, speed and cost of PixArt-Sigma before anything is compiled: counted on the programs, without weights.

    from optimum_pixart_neuron.planner import Request, plan
    rows = plan(Request(height=1024, width=1024), instances=["inf2.48xlarge"])

What is counted (FLOPs, bytes of weights, bytes sent) is what an export has. What is derived from it is a prediction: a
lower bound from the peaks of the hardware, and that bound at one stated efficiency (`published.py`).
"""

from importlib import import_module

_PUBLIC = {
    "ComponentPlan": "component_plan",
    "PlanRow": "prediction",
    "Released": "released",
    "Request": "request",
    "plan": "prediction",
    "predict": "prediction",
}
"""Name -> module that has it, imported when it is asked for: a request is made without torch."""

__all__ = [*_PUBLIC]


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(import_module(f".{_PUBLIC[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
