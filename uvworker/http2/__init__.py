"""A connection of HTTP/2: each of its streams is served as a request of `http` is.

::

    connection  frames to requests, within limits
    wire        bytes to events of zttp, and back; `frames`, beside zttp
    head        from a head to an ASGI scope
    stream      one request, a subclass of the cycle of `http`

`http.negotiation` gives connections to it, and knows it only from the settings.
"""
