"""What happens around one request: who sends it, what it asks for, how it is answered."""
