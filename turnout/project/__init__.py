"""A user's folder read whole (manifest, artifacts, examples), and the lock under which it is edited."""
