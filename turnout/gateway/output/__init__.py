"""Everything that a server prints, on its way to readers that may stall: a process of its own writes it."""
