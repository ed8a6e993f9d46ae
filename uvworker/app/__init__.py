"""The app: its interface, its lifespan, a WSGI app, the page for a broken one."""
