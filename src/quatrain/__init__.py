"""quatrain: HPC workflows for foundation-model and graph research, on Parsl."""

__version__ = "0.1.0"
