"""Packages: the zips and layers that AWS gets and that isolated functions run from here."""
