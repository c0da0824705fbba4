"""An OpenAI-compatible server for tests: deterministic answers, and failures on demand. See ../README.md."""
