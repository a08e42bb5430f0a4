"""The backends by name: each module here has `SETTINGS`, the class of its models' files (see config/model.py)."""
