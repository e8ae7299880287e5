"""Traces of feature accesses, their replay, and the choice of cache settings."""
