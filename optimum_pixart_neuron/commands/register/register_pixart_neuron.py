"""Our part of `optimum-cli`. Loaded at every start of it: keep it light.

Gives `optimum-cli export neuron` its PixArt-Sigma path, and `optimum-cli neuron` our sub-commands. Register files
load in any order, Python 3.11 refuses a second `neuron` sub-command, and a command that another register file
declares cannot be a parent (optimum 2.0). So where the host has a command its class is extended in place, which serves
whichever file loads first.
"""

from optimum.commands.export.base import ExportCommand
from optimum.commands.neuron.base import NeuronCommand
from optimum.commands.neuron.cache import LookupRepoCommand
from optimum.neuron.utils import is_neuronx_available

from optimum_pixart_neuron.commands.host import (
    PixArtNeuronExportCommand,
    add_subcommands,
    extend_host_command,
    extend_lookup,
)

add_subcommands(NeuronCommand)
extend_lookup(LookupRepoCommand)

if is_neuronx_available():
    from optimum.commands.export.neuronx import NeuronxExportCommand

    extend_host_command(NeuronxExportCommand)
    REGISTER_COMMANDS = []
else:
    REGISTER_COMMANDS = [(PixArtNeuronExportCommand, ExportCommand)]
