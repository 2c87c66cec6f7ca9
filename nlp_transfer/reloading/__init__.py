"""Whether a saved model is the trained one: examples with their logits (examples), in a fresh process (check)."""
