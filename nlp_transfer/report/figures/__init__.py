"""Figures of a report: pure functions from facts to SVG text that is read on screen, on paper and aloud."""
