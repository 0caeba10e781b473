"""MIBE: prompts, parsing, scorers, few-shot, forgetting."""
