"""The model runtimes: how a version's files are read, opened and packaged. Uses `artifacts` only."""
