"""Images and their truth: made ones, and readers for the layouts that researchers have."""
