"""Fields, masks, climatologies and statistics that are computed from a source."""
