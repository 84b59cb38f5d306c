"""The bugs of the catalogue, one family a file."""
