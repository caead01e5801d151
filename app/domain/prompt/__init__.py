"""What a prompt asks for, in the motions that a model knows."""
