"""The record of an answered request: access log, statsd, hooks and counts."""
