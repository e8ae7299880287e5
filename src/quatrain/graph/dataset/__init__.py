"""Graphs as files: readers, checks and synthetic graphs."""
