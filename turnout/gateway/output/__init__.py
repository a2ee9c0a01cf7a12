"""Writes everything that a server prints in a separate process, because readers may stall."""
