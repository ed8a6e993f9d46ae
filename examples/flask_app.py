"""Flask, or any WSGI app: needs pip install 'uvworker[wsgi]'.

UVICORN_INTERFACE=wsgi gunicorn -k uvworker.Worker -w 4 --threads 16 flask_app:app
"""

import os

from flask import Flask, request

app = Flask(__name__)


@app.get("/")
def hello() -> dict[str, str | int]:
    name = request.args.get("name", "world")
    return {"message": f"Hello, {name}!", "worker": os.getpid()}
