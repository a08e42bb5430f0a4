"""Predictions to scores: filters, metrics and their error bars."""
