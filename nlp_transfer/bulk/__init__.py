"""Prediction for many texts: where they come from, work shared and resumed part by part, the output's formats."""
