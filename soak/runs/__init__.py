"""The attacks: each starts its own server, attacks it for a while, and returns a `Result`."""
