"""Stores whose bytes are in other files: references of kerchunk, repositories of Icechunk."""
