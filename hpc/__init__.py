"""Parsl and Slurm: the only code of quatrain that knows them."""
