"""The package transformers.data.metrics of Transformers 4, as far as the code of lm-eval's tasks imports it."""
