"""Data: files, hub data sets and objects become checked, canonical rows (:mod:`nlp_transfer.data.load`)."""
