"""Django in one file: gunicorn -k uvworker.Worker -w 4 django_app:app.

A project has this in its asgi.py: gunicorn -k uvworker.Worker -w 4 mysite.asgi.
"""

import os

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="an example")


async def hello(request: HttpRequest) -> JsonResponse:
    name = request.GET.get("name", "world")
    return JsonResponse({"message": f"Hello, {name}!", "worker": os.getpid()})


urlpatterns = [path("", hello)]
app = get_asgi_application()
