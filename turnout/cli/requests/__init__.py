"""`turnout requests`: the asynchronous requests of the project's queue."""
