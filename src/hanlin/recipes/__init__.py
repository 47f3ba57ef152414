"""Scenario models: each a base model and a way to call it, a module each."""
