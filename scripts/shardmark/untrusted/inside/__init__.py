"""What runs inside the sandbox, with the standard library alone: there is nothing else in it."""
