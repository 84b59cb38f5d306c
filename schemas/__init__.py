"""Types of the wire: requests, answers and problems, without service, Flask and torch."""
