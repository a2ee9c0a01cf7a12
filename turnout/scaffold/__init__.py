"""Writes the files of `turnout init` and `turnout add`, all or nothing."""
