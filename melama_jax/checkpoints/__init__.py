"""The Orbax store, and Hugging Face folders in and out."""
