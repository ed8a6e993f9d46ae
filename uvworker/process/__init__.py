"""What a signal and a life sign flow through."""
