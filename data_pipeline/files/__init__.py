"""Atomic writes, resumable work and progress."""
