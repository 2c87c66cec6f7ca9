"""The model card: facts (facts), metadata for the hub (metadata), and the text for people (text, trust)."""
