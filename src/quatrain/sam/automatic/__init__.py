"""Automatic mask generation: every object of an image from a grid of point prompts."""
