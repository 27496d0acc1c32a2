"""Atomic writes, resumable work, free space and progress."""
