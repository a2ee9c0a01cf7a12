"""The routers: what one hop cannot do. Each runs in a function of its own; plain traffic never comes here."""
