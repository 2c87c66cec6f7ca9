"""A smaller model that answers as a larger one does: where it starts, how it is trained, what it comes to."""
