"""Texts as documents and users write them, and as nobody should."""

from __future__ import annotations

from hypothesis import strategies as st

from melama_jax.text.chat import Message

SCRAPS = [
    " ", "  ", "\n", "\n\n", "\r\n", "\t", "\0", "▁", "▁▁", "\u00a0", "\u200b", "\ufeff", "<0x0A>", "##",
    "Human: \n", "\n\nAssistant: \n", "The patient", " fever", "mg/dL", "38.5", "α", "温", "e\u0301", "😷", "👩🏽‍⚕️",
    "aaaa", "abab", "----", "(((", "Ġ", "{{ eos_token }}", "\ud7ff", "\U0010ffff",
]  # fmt: skip
SPECIALS = ["<s>", "</s>", "<unk>", "<|end_of_text|>", "<|eot_id|>"]

characters = st.characters(exclude_categories=["Cs"])
texts = st.lists(st.sampled_from(SCRAPS) | st.text(characters, max_size=8), max_size=10).map("".join)
texts_with_specials = st.lists(st.sampled_from(SPECIALS) | texts, max_size=4).map("".join)


plain_texts = texts.filter(lambda text: not any(special in text for special in SPECIALS))


@st.composite
def conversations(draw, content=plain_texts):
    """[system], then one to three turns of user and assistant."""
    system = [Message("system", text) for text in draw(st.lists(content, max_size=1))]
    pairs = draw(st.lists(st.tuples(content, content), min_size=1, max_size=3))
    turns = [message for q, a in pairs for message in (Message("user", q), Message("assistant", a))]
    return [*system, *turns]
