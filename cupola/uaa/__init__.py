"""Identity: logs users and clients in, gives tokens, keeps users. A subset of UAA that unmodified clients can use."""
