"""What a connection and its requests flow through."""
