"""What a PixArt-Sigma checkpoint is, where it lies and what it holds."""
