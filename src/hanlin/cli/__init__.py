"""The command line: reads, calls, prints."""
