"""The one small process that stays beside a server."""
