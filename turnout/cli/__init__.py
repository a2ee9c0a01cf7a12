"""The command line: parses arguments and prints results that other rooms compute."""
