"""Importing the real module registers the `xla` backend of torch.distributed; the emulator has none to register."""
