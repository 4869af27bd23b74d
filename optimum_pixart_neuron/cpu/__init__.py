"""Kernels of this machine's own processor, for what is computed here: by the emulator, and by the originals."""
