"""The HTTP/1.1 client of the fast path: framing, bodies, connections and the connection pool."""
