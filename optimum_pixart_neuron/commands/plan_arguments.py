"""The flags of `optimum-cli neuron pixart-plan`; imports nothing heavy."""

from __future__ import annotations

from argparse import ArgumentParser

PROG = "optimum-cli neuron pixart-plan"
DESCRIPTION = "Memory, speed and cost of PixArt-Sigma on each instance, mode and number of cores; compiles nothing."


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the flags."""
    parser.description = DESCRIPTION
