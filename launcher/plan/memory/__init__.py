"""How many bytes, place by place."""
