"""The algebra: networks written by composing modules."""
