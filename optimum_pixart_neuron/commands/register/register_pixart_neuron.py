"""Gives `optimum-cli export neuron` its PixArt-Sigma path. Loaded by optimum-cli at every start: keep it light.

Register files load in any order and Python 3.11 refuses a second `neuron` sub-command. So where the host registers
its own command its class is extended in place, which serves whichever file loads first.
"""

from optimum.commands.export.base import ExportCommand
from optimum.neuron.utils import is_neuronx_available

from optimum_pixart_neuron.commands.export import PixArtNeuronExportCommand, extend_host_command

if is_neuronx_available():
    from optimum.commands.export.neuronx import NeuronxExportCommand

    extend_host_command(NeuronxExportCommand)
    REGISTER_COMMANDS = []
else:
    REGISTER_COMMANDS = [(PixArtNeuronExportCommand, ExportCommand)]
