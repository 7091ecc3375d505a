"""The error of everything in this package."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be written or used. Nothing has been overwritten: no file, no
    weight, no state.
    """
