"""Faults put into the main job and inputs that are hostile; what survives. `python -m benchmarks.faults --help`."""
