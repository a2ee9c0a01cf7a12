"""HTTP/1.1 over sockets: the other rooms see only requests and responses. It may import `turnout.protocol`."""
