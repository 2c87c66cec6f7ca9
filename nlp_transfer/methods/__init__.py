"""Adaptation methods: extra loss terms on units. One file a method; :mod:`nlp_transfer.parts` lists them."""
