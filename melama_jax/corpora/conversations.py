"""Instruction data: readers of conversations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from melama_jax.corpora.source import Source
from melama_jax.corpora.tables import id_of, list_rows, text_of
from melama_jax.errors import InputError
from melama_jax.files import read_jsonl
from melama_jax.text.chat import Message

_NO_INPUT = ("", "<noinput>")  # the second is how self-instruct and AlpaCare write an empty input
_SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages to tune on, with where they came from (fields as in Document)."""

    id: str
    messages: tuple[Message, ...]
    source: str
    domain: str
    licence: str

    @property
    def text(self) -> str:
        """All messages, one after another: what curation looks at."""
        return "\n".join(message.content for message in self.messages)


def read_alpaca(path: Path, source: Source, name: str) -> Iterator[Conversation]:
    """Alpaca rows (instruction, input, output; input may be missing), a JSON list or JSON Lines.

    The question is the instruction, and the input on the lines below it.
    """

    def messages(row: dict[str, Any], where: str) -> Iterator[Message]:
        instruction, given = text_of(row, "instruction", where), text_of({"input": "", **row}, "input", where)
        yield Message("user", instruction if given in _NO_INPUT else f"{instruction}\n{given}")
        yield Message("assistant", text_of(row, "output", where))

    return _conversations(path, source, name, messages)


def read_pairs(path: Path, source: Source, name: str) -> Iterator[Conversation]:
    """A question and its answer in the two fields `source.text_field` names; a JSON list or JSON Lines."""
    fields = source.text_field
    if isinstance(fields, str) or len(fields) != 2:
        raise InputError(f"Source {source.name}: text_field", repr(fields), "two fields, question and answer")

    def messages(row: dict[str, Any], where: str) -> Iterator[Message]:
        for role, field in zip(("user", "assistant"), fields, strict=True):
            yield Message(role, text_of(row, field, where))

    return _conversations(path, source, name, messages)


def read_messages(path: Path, source: Source, name: str) -> Iterator[Conversation]:
    """Chat rows: messages [{role, content}], or ShareGPT's conversations [{from, value}]; JSON list or Lines."""

    def messages(row: dict[str, Any], where: str) -> Iterator[Message]:
        shared = "messages" not in row and "conversations" in row
        turns = row.get("conversations" if shared else "messages")
        if not isinstance(turns, list) or not turns or not all(isinstance(turn, dict) for turn in turns):
            raise InputError(where, "no list of messages", "messages: [{role, content}, ...]")
        for number, turn in enumerate(turns, start=1):
            spot = f"{where} message {number}"
            role = turn.get("from" if shared else "role")
            if role not in _SHAREGPT_ROLES or not isinstance(role, str):
                raise InputError(spot, f"the role {role!r}", "system, user or assistant")
            yield Message(_SHAREGPT_ROLES[role], text_of(turn, "value" if shared else "content", spot))

    return _conversations(path, source, name, messages)


def _conversations(
    path: Path, source: Source, name: str, messages: Callable[[dict[str, Any], str], Iterator[Message]]
) -> Iterator[Conversation]:
    lines = ".jsonl" in path.suffixes
    for number, row in read_jsonl(path) if lines else list_rows(path):
        where = f"{path} {'line' if lines else 'row'} {number}"
        identity = id_of(row, source.id_field, f"{name}:{number}", where)
        found = tuple(messages(row, where))
        _check_turns(found, where)
        yield Conversation(identity, found, source.name, source.domain, source.licence)


def _check_turns(messages: tuple[Message, ...], where: str) -> None:
    """[system], user, assistant, user, assistant, ...: what chat templates can render and training can use."""
    roles = [message.role for message in messages]
    turns = roles[1:] if roles[0] == "system" else roles
    if not turns or len(turns) % 2 or turns != ["user", "assistant"] * (len(turns) // 2):
        raise InputError(
            where, f"messages by {', '.join(roles)}", "user and assistant in turns, assistant last"
        )
