"""Emulated neuronxcc: its version. Compilation is tracing, done by torch_neuronx and neuronx_distributed."""

# Greater than the real 2.21.33363.0 (PEP 440: a local version sorts after its public one), so that optimum-neuron on
# hardware with that compiler refuses what was compiled here.
__version__ = "2.21.33363.0+emulated"
