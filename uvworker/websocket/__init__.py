"""A message: WebSockets, from the bytes behind the handshake to the app and back."""
