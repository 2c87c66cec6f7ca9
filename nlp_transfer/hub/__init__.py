"""Pushing a run: what is pushed (package, files), where to (remote, storage), and every call bounded (calls)."""
