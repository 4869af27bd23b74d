"""The process of `validate_artifacts`, which hands it two open files: one for request and outcome, one for its log."""

import logging
import pickle
import sys
from typing import BinaryIO, TextIO

from ..errors import PixArtNeuronError
from ..validation.validate import read_request, validate_here
from .frame import exit_on_termination, shown_log
from .streams import checked_streams


def main(shared: BinaryIO, log: TextIO) -> None:
    """Read the request, and write the records or the user's error in its place."""
    exit_on_termination()
    logging.getLogger("optimum_pixart_neuron.emulator").setLevel(logging.ERROR)  # who asks has announced it
    request = read_request(shared)
    outcome: object
    try:
        with checked_streams(), shown_log(log):
            outcome = validate_here(**request)
    except PixArtNeuronError as error:
        outcome = error
    shared.seek(0)
    shared.truncate()
    pickle.dump(outcome, shared)


if __name__ == "__main__":
    try:
        with open(int(sys.argv[1]), "r+b") as shared_file, open(int(sys.argv[2]), "w") as shared_log:
            main(shared_file, shared_log)
    except KeyboardInterrupt:
        sys.exit(130)
