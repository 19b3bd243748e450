"""Access tokens: signing keys, verification, and who is behind a request."""
