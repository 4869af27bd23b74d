"""The SDK of this process, the machine, and processes of our own."""
