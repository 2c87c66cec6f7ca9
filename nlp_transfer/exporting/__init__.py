"""Models in other formats: written from a run, checked against it, and run without torch."""
