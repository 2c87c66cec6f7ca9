"""Everything a run reads before it builds a model: checked splits, and what the user should know about them."""
