"""The story, top to bottom: probe, read the model, plan, pull, start. Everything is wired here."""
