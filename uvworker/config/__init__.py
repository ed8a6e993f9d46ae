"""Settings and options: read from gunicorn and the environment, checked and frozen."""
