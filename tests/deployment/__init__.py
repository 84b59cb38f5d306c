"""The files that say how the service is deployed."""
