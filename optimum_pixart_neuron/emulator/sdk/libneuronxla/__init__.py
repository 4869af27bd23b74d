"""Emulated libneuronxla: the compile cache's classes. The emulator itself caches nothing."""

__version__ = "2.2.12677.0+emulated"
