"""A request: from bytes to the app, and back.

The connection is one class in five steps. Each adds one thing and imports only rooms
below it::

    protocol    what uvicorn calls: settings, end of file, drain
    upgrade     requests for another protocol; `handshake`, `handoff`, `negotiation`
    connection  the peer, and from a head to an ASGI scope
    answering   requests in order, deadlines of a request
    closing     how a connection ends
    reading     bytes to requests, within `limits`; `target`, `codings`
    cycle       one request as the app sees it: `receive`, `send`; `head`
    service     what all connections share; `deadlines`, `refusal`, `forwarded`
"""
