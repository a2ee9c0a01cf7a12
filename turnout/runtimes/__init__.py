"""What each model runtime is: a row says how a version's files are read, opened and packaged. Uses `artifacts` only."""
