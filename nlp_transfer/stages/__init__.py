"""The stages of a run: settings and an input model become a folder with an output model. One file a stage."""
