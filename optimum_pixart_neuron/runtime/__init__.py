"""The pipeline that users call."""
