"""Watched session folders: a file that is dropped and whole becomes a result folder beside it."""
