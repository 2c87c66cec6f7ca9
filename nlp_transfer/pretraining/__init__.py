"""Ways to go on pretraining an encoder on unlabelled text. One file an objective."""
