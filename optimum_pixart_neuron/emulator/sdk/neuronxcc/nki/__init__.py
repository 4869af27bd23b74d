"""Emulated neuronxcc.nki: what launches the one kernel that has a stand-in."""
