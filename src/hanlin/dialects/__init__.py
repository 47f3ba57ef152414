"""Wire formats, a module each. They know `types` and `errors` only, and not each other."""
