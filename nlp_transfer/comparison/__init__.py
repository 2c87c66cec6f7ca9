"""Comparison of strategies: the same recipe trained in several ways, over seeds, judged together."""
