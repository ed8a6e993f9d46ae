"""The shape of uvicorn's worker class, for subclasses of it."""
