"""Processes of a run: how they find each other, start warm, and end with the run. This is the lowest package."""
