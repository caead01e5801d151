"""The shapes of requests and responses, by resource. No Flask, no database."""
