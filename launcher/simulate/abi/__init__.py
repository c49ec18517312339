"""Llama.cpp's memory and functions as they lie."""
