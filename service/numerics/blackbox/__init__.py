"""A gradient judged by losses that somebody else evaluates: at which points, and what follows from the values."""
