"""Model functions run in the gateway's own process: short runs on the event loop, long ones in threads."""
