"""``flex-assist bench latency``: what somebody who types sees, against llama.cpp's own server."""
