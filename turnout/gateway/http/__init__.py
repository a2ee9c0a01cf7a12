"""HTTP/1.1 over sockets; the rest of the gateway knows requests and responses only."""
