"""The node's page: a small ASGI application (Starlette, Jinja2) without anything from outside."""
