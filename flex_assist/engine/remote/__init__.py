"""Asking a server instead of this machine, for repositories that opted in."""
