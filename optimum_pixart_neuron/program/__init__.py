"""The traced program of a component, and checks on it."""
