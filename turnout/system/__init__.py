"""This machine: files, child processes, tokens of services. It may use the protocol only."""
