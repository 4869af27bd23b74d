"""What is decided once, for the export, the planner, the benchmark and validation."""
