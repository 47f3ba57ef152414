"""What a caller may use, what is left of it, and what a call costs."""
