"""Commands of the command line, a file each, and what all of them share. Registered in :mod:`nlp_transfer.cli`."""
