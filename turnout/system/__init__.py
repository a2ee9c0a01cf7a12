"""What every part needs of this machine: files, child processes, tokens of services. It may use the protocol only."""
