"""How gunicorn serves: its worker, its logger, and what of the metrics has to outlive a worker."""
