"""Sends captured requests again, compares the responses and reports."""
