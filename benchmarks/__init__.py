"""Measurements beside the peers. Ratios of medians from one run; seconds belong to the machine."""
