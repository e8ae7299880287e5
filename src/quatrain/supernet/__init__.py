"""SAM as a weight-sharing supernet (SuperSAM, arXiv 2501.08504)."""
