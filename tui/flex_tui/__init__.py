"""The terminal chat: a Textual application over ``flex_assist.chat``."""
