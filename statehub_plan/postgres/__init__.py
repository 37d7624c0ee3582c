"""PostgreSQL, the domain's heart: connect, state, register, fence, hold, and what travels between two databases."""
