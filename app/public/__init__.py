"""How jobs, webhooks and timelines look from outside: to API clients and to webhook receivers."""
