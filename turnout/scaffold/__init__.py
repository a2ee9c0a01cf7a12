"""What `turnout init` and `turnout add` write, all or nothing."""
