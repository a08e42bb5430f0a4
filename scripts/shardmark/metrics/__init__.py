"""What answers are worth: one file a metric."""
