"""What is kept: tables, their migrations, and the rows that others read and write. The only room with SQL.

SQLite by default, PostgreSQL when several servers share a database; whatever is written here must run on both.
"""
