"""Models in other formats, written as requests of a check, without Flask."""
