"""Kernels that ship with the compiler."""
