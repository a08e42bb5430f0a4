"""Requests to predictions. Importing this package imports neither torch nor transformers."""
