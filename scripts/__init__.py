"""Commands for people who work with the repository, and the stack that they run."""
