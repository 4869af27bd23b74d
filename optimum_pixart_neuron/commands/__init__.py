"""The command line: flags, defaults, and the choice of the exporter. Nothing here imports torch."""
