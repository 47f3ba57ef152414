"""The use cases; the only room that composes the ones below it."""
