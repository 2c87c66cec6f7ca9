"""What can be known before any training: how far apart the domains are, what the encoder knows, what to try first."""
