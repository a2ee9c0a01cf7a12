"""One change of a canary: planned, recorded, written, sent, mended."""
