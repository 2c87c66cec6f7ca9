"""A model as an HTTP service: answers batched over clients, limits, metrics, and a page for people.

Needs the extra ``serve``. :func:`nlp_transfer.serving.server.serve` starts it;
:func:`nlp_transfer.serving.app.build_app` makes the application alone, for other servers.
"""
