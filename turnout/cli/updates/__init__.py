"""`turnout update`, which offers the newer version behind an alias."""
