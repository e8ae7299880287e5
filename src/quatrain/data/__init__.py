"""Images and their truth: synthetic ones, and readers for the formats and layouts that researchers have."""
