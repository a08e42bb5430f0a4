"""Predictions to scores: answers, what metrics make of them, and their error bars."""
