"""Other servers that take a picture, answer with an id and render later, for `pipeline --peers`."""
