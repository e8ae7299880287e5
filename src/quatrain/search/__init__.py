"""The search for sub-networks: engines that propose, constraints, and the journal."""
