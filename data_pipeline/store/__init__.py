"""The training store: its format, writer and reader."""
