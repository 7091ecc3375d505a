"""Lift tiny random models of many libraries, and say which norm each tensor gets.

    python -m benchmarks.lift_zoo --write docs/guides/lifting.md
    python -m benchmarks.lift_zoo --report gpt2 swin    # some of them, with their reports
    python -m benchmarks.lift_zoo --export              # how many torch.export takes

Models are built from their configurations, without downloads. Those of libraries that are not
installed are left out, and named. For each model the table has the tensors of two axes or more: how
many are used as matrices (kernels of convolutions among them), how many as tables or other sets of
vectors, and how many enter a weight by other than linear maps; then for each rule that Muon is used
with how many tensors it gets wrong: tables and vectors that it orthogonalises, and matrices that it
leaves to Adam.
"""

from benchmarks.lift_zoo.command import main

__all__ = ["main"]
