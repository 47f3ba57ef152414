"""A parser for each kind of file. Each is a function `pages(work)` that yields the pages of a document in their order.

They run in a process of their own (`parse_child`), which imports the one that it needs.
"""
