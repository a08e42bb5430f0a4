"""Read texts that models write: numbers, words, thoughts, stated options."""
