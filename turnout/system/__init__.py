"""What every part needs of this machine: its own addresses, child processes, AWS clients."""
