"""Formats of the files that pass between jobs, and remembered facts about files."""
