"""The nas and autotune workflows: what a run holds, its stages, tables and reports."""
