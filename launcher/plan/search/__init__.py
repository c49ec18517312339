"""Which of all quants, caches and placements."""
