"""``python -m nlp_transfer``: the same as the command ``nlp-transfer``."""

from .cli import main

if __name__ == "__main__":
    main()
