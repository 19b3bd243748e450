"""PostgreSQL databases as a service: the broker that sells them, and the server that they are on. Off by default."""
