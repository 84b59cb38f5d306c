"""How gunicorn serves: its logger, and what of the metrics has to outlive a worker."""
