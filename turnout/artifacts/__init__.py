"""A version's files on disk: digest, signature, examples."""
