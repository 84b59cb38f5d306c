"""Parts that all kinds of check share."""
