"""New tokens for the target domain, where the vocabulary cuts its words into many pieces."""
