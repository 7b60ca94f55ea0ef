"""From a folder of source code to documents fit for training, with a reason for each file."""
