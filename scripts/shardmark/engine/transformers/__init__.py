"""Models of Hugging Face transformers: loading, the token tree's forward passes, continuous batches."""
