"""The flags of `optimum-cli neuron pixart-benchmark`; imports nothing heavy."""

from __future__ import annotations

from argparse import ArgumentParser

PROG = "optimum-cli neuron pixart-benchmark"
DESCRIPTION = "Measure a compiled PixArt-Sigma: latency, throughput and host time."


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the flags."""
    parser.description = DESCRIPTION
