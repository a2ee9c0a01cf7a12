"""The command line: it parses and prints, and what it prints was worked out elsewhere."""
