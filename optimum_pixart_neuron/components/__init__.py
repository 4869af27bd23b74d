"""The components of the pipeline, one folder each."""
