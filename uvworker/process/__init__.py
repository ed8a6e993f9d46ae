"""Signals and heartbeats: how workers start, watch one another and stop."""
