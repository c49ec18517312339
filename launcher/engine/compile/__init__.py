"""The pinned llama.cpp, compiled here."""
