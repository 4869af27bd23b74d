"""Tracing, sharding and building of parallel programs (NxD 0.15 `trace/`)."""

from .model_builder import ModelBuilder
from .trace import parallel_model_load, parallel_model_save, parallel_model_trace

__all__ = ["ModelBuilder", "parallel_model_load", "parallel_model_save", "parallel_model_trace"]
