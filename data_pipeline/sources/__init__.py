"""Everything that can be read, as one canonical dataset."""
