"""Formats of the files that pass between jobs, and what is remembered of files."""
