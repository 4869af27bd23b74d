"""Memory, speed and cost of PixArt-Sigma before anything is compiled: arithmetic on sizes, without torch or weights.

    from optimum_pixart_neuron.planner import Request, plan
    rows = plan(Request(height=1024, width=1024), instances=["inf2.48xlarge"])

What is counted (FLOPs, bytes of weights, bytes sent) is tested against the programs. What is derived from it is a
prediction: a lower bound from the peaks of the hardware, and that bound at one stated efficiency (`published.py`).
"""

from .geometry import XL_2, Geometry
from .predict import ComponentPlan, PlanRow, Request, deployments, plan, predict

__all__ = ["XL_2", "ComponentPlan", "Geometry", "PlanRow", "Request", "deployments", "plan", "predict"]
