"""Two real clusters and a small State Hub, for people to play with and for tests."""
