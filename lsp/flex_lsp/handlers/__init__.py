"""One module for each method. They translate between the protocol and the session, no more."""
