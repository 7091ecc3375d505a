"""What things cost, measured side by side. Run one with `python -m benchmarks.NAME`."""
