"""The steps that lead from an empty database to the tables of this release, one file a step.

Steps are appended, named and never edited: databases out there have taken them. A file is named after its revision,
at most 32 characters, and the next one starts with the next number. A step runs inside a transaction with all others
that a database lacks, on SQLite and on PostgreSQL.
"""
