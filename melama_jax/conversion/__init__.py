"""Models in and out: Hugging Face, PEFT, Meta, llama2.c and T5X, a matrix at a time."""
