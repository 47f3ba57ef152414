"""Administering a service: what can be done (`operations`), with which values, by which rules, on the database."""
