"""HTTP/1.1 over sockets: the other rooms see requests and responses only. It may import `turnout.protocol`."""
