"""The routers, for calls that need more than one hop.

Each runs in its own function; plain traffic does not pass through them.
"""
