"""What is read out of texts that models write: numbers, words, thoughts."""
