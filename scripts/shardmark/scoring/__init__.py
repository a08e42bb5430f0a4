"""From predictions to scores: extracted answers, metrics, and error bars."""
