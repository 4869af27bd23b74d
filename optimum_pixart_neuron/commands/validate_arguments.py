"""The flags of `optimum-cli neuron pixart-validate`; imports nothing heavy."""

from __future__ import annotations

from argparse import ArgumentParser

PROG = "optimum-cli neuron pixart-validate"
DESCRIPTION = "Compare each component of a compiled PixArt-Sigma with its original in float32."


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the flags."""
    parser.description = DESCRIPTION
