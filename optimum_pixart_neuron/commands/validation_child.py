"""The process of `validate_artifacts`, which hands it an open file with the request and reads the outcome there."""

import pickle
import sys
from typing import BinaryIO

from ..errors import PixArtNeuronError
from ..validation.validate import read_request, validate_here
from .frame import exit_on_termination
from .streams import checked_streams


def main(exchange: BinaryIO) -> None:
    """Read the request, and write the records or the user's error in its place."""
    exit_on_termination()
    folder, checkpoint, atol = read_request(exchange)
    try:
        with checked_streams():
            outcome = validate_here(folder, checkpoint, atol=atol)
    except PixArtNeuronError as error:
        outcome = error
    exchange.seek(0)
    exchange.truncate()
    pickle.dump(outcome, exchange)


if __name__ == "__main__":
    try:
        with open(int(sys.argv[1]), "r+b") as shared_file:
            main(shared_file)
    except KeyboardInterrupt:
        sys.exit(130)
