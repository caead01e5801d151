"""gunicorn's entry point: `gunicorn -c python:app.gunicorn_conf app.wsgi:app`."""

from app.api.application import create_app
from app.config.settings import settings
from app.telemetry import configure_logs

configure_logs(settings().log_level)
app = create_app(settings())
