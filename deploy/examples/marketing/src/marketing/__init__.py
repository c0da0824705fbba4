"""An example crew: market research, then marketing copy."""
