"""The model: its graph, presets, rounding, and non-finite numbers."""
