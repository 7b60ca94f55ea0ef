"""FLeX-Assist: a local code model that adapts itself to one repository.

The core package: it mines repositories, builds prompts, talks to the engine and keeps adapters.
It imports neither torch nor a user interface; the trainer, the language server and the terminal
chat are packages of their own that build on this one.
"""

__version__ = "0.1.0"
