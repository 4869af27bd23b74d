"""What a compiled PixArt-Sigma takes: end to end, by component, and on the host outside compiled graphs."""
