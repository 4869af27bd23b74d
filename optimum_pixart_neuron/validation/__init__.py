"""Compiled components against their originals: diffusers and transformers, unmodified, in float32, on equal inputs."""
