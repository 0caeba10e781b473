"""Instruction data: rows to messages, and rows that are none."""

from __future__ import annotations

import json

import pytest

from melama_jax.corpora.read import read_source
from melama_jax.corpora.source import Source
from melama_jax.errors import InputError
from melama_jax.text.chat import Message


def read(root, reader, pattern, **more):
    return list(read_source(Source("one", "biomedical", reader, pattern, "x", **more), root))


def pairs(conversation):
    return [(message.role, message.content) for message in conversation.messages]


def test_alpaca_lists_and_lines(tmp_path):
    rows = [
        {"instruction": "Name a bone.", "input": "", "output": "Femur."},
        {"instruction": "Sum up.", "input": "Long text", "output": "Short."},
        {"instruction": "Go on.", "output": "Yes."},
        {"instruction": "Explain.", "input": "<noinput>", "output": "So."},
    ]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name in ("a.json", "a.jsonl"):
        found = read(tmp_path, "alpaca", name)
        assert [c.id for c in found] == [f"{name}:{i}" for i in (1, 2, 3, 4)]
        assert [pairs(c) for c in found] == [
            [("user", "Name a bone."), ("assistant", "Femur.")],
            [("user", "Sum up.\nLong text"), ("assistant", "Short.")],
            [("user", "Go on."), ("assistant", "Yes.")],
            [("user", "Explain."), ("assistant", "So.")],
        ]
        assert found[1].text == "Sum up.\nLong text\nShort."


def test_messages_and_sharegpt(tmp_path):
    rows = [
        {
            "key": 1,
            "messages": [
                {"role": r, "content": c} for r, c in (("system", "s"), ("user", "u"), ("assistant", "a"))
            ],
        },
        {"key": 2, "conversations": [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}]},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    first, second = read(tmp_path, "messages", "m.jsonl", id_field="key")
    assert first.messages == (Message("system", "s"), Message("user", "u"), Message("assistant", "a"))
    assert (second.id, pairs(second)) == ("2", [("user", "u"), ("assistant", "a")])


def test_pairs(tmp_path):
    (tmp_path / "p.jsonl").write_text(json.dumps({"query": "q", "answer": "a"}))
    (found,) = read(tmp_path, "pairs", "p.jsonl", text_field=("query", "answer"))
    assert pairs(found) == [("user", "q"), ("assistant", "a")]
    with pytest.raises(InputError, match="two fields"):
        read(tmp_path, "pairs", "p.jsonl")


BAD = [
    ("alpaca", {"instruction": "x"}, "'output'"),
    ("alpaca", {"instruction": 1, "output": "y"}, "int"),
    ("messages", {"messages": []}, "no list of messages"),
    ("messages", {"messages": ["hi"]}, "no list of messages"),
    ("messages", {"messages": [{"role": "tool", "content": "x"}]}, "role 'tool'"),
    ("messages", {"messages": [{"role": "user"}]}, "'content'"),
    ("messages", {"messages": [{"role": "user", "content": "x"}]}, "assistant last"),
    ("messages", {"messages": [{"role": "assistant", "content": "x"}]}, "assistant last"),
    ("messages", {"messages": [{"role": "system", "content": "x"}]}, "assistant last"),
]


@pytest.mark.parametrize(("reader", "row", "said"), BAD)
def test_bad_rows_are_bad_input(tmp_path, reader, row, said):
    good = {
        "instruction": "i",
        "output": "o",
        "messages": [{"role": r, "content": "c"} for r in ("user", "assistant")],
    }
    (tmp_path / "b.jsonl").write_text(json.dumps(good) + "\n" + json.dumps(row))
    with pytest.raises(InputError, match=f"b.jsonl line 2.*{said}"):
        read(tmp_path, reader, "b.jsonl")


def test_real_alpaca(shared):
    rows = json.loads((shared / "chatdoctor" / "chatdoctor5k_1500.json").read_text())
    found = read(shared, "alpaca", "chatdoctor/*.json")
    assert len(found) == len(rows) == 1500
    for row, conversation in zip(rows, found, strict=True):
        question, answer = conversation.messages
        assert row["instruction"] in question.content and row["input"] in question.content
        assert answer.content == row["output"]
