"""Tasks: how rows become units, and how logits become answers and scores."""
