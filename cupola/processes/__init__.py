"""One module per process: each builds its own parts by hand and connects them."""
