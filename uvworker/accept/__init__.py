"""What a connection flows through, until its first byte of HTTP."""
