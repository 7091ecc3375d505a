"""Files that are written whole or not at all, as checkpoints are (`modula.atomic`)."""

from modula.atomic import sync_folder, write_whole

__all__ = ["sync_folder", "write_whole"]
