"""The command: `python -m benchmarks.lift_zoo`."""

from benchmarks.lift_zoo.command import main

main()
