"""Writes the files of `turnout init` and `turnout add`, either all or none."""
