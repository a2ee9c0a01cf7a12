"""Builds packages: the zips and layers that are uploaded to AWS and that isolated functions run from here."""
