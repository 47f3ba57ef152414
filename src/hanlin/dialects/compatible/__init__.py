"""What the dialects of the compatible surface share: parameters and their refusals, messages, tools, error bodies."""
