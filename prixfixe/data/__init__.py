"""Sequences and measurements: read, checked, split, kept ready; test sets; the public data."""
