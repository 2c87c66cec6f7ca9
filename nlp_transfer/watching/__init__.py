"""Label trends of a stream of texts, and alerts when they shift: windows, tests, lines of JSON, a page."""
