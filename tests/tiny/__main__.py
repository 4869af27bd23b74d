"""`python -m tests.tiny OUT`: write the checkpoint."""

from .checkpoint import main

main()
