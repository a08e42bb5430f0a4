"""Run other people's work: templates and patterns within bounds, programs in a sandbox."""
