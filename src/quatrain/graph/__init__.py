"""Distributed GraphSAGE on DistDGL."""
