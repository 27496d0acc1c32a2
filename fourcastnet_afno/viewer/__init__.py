"""The explorer of stores of any size: a page on this machine whose fields are read when it asks."""
