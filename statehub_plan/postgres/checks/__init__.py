"""The pre-flight checks: each is declared once (`declare`), by theme; `registry` has all of them, `run` asks them."""
