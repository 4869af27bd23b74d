"""The process of `validate_artifacts`: `python -m optimum_pixart_neuron.commands.validation_child FOLDER`."""

import pickle
import sys
from pathlib import Path

from ..errors import PixArtNeuronError
from ..validation.validate import OUTCOME, REQUEST, validate_here
from .frame import exit_on_termination


def main(holder: Path) -> None:
    """Read the request in `holder`, and write records or the user's error there."""
    exit_on_termination()
    folder, checkpoint, atol = pickle.loads((holder / REQUEST).read_bytes())
    try:
        outcome = validate_here(folder, checkpoint, atol=atol)
    except PixArtNeuronError as error:
        outcome = error
    (holder / OUTCOME).write_bytes(pickle.dumps(outcome))


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit(130)
