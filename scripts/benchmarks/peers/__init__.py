"""Other servers that accept a picture, return an id and render later, for `pipeline --peers`."""
