"""The way to inference servers: our own HTTP/1.1 client on httptools, with pooled keep-alive connections."""
