"""From a checkpoint to compiled artifacts: one declarative config a component, and the exporter that drives them."""
