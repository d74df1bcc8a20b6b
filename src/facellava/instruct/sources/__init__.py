"""The datasets behind FaceInstruct-1M: one module per official on-disk layout, found by folder.

A source module defines ``INFO`` and ``read(root, split, **options)``. Adding a file here adds a dataset everywhere.
"""

from .base import SourceInfo, all_sources, chunks, get, require

__all__ = ["SourceInfo", "all_sources", "chunks", "get", "require"]
