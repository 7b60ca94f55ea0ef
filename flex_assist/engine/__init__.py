"""The engine: token ids in, text out. Every front end talks to it through ``protocol.Engine``."""
