"""T5X's checkpoints as model directories."""

from __future__ import annotations

CARD_FILE = "melama_card.json"
