"""The compiler's own attention kernel, by a stand-in."""

from optimum_pixart_neuron.emulator.kernels import StandIn, attention

# The name that code written for the SDK imports; it is launched through `torch_neuronx.xla_impl.ops.nki_jit`.
attention_isa_kernel = StandIn("attention_isa_kernel", attention)
