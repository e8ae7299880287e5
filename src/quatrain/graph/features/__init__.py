"""Vertex features: sources, the cache and its policies."""
