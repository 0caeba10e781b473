"""llama2.c files: the real small LLaMA tells its story, and what is not whole is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers

from melama_jax.conversion.hf_export import to_hf
from melama_jax.conversion.llama2c import Llama2cWeights, from_llama2c
from melama_jax.conversion.open import open_model
from melama_jax.errors import InputError
from melama_jax.generation.decode import generate
from melama_jax.models.llama import Llama


@pytest.fixture(scope="module")
def stories(shared, tmp_path_factory):
    """(folder of the real material, the model directory made of it)."""
    source = shared / "stories260K"
    directory = tmp_path_factory.mktemp("stories") / "run"
    from_llama2c(source / "stories260K.bin", directory, source / "tok512.model")
    return source, directory


def test_our_model_tells_the_expected_story(stories):
    source, directory = stories
    opened = open_model(directory)
    assert opened.tokenizer is not None
    ids = generate(Llama(opened.card.model), opened.params, [[opened.tokenizer.bos_id]], max_new_tokens=200)[
        0
    ]
    assert opened.tokenizer.decode(ids).strip() == (source / "expected_greedy_200.txt").read_text().strip()


def test_the_export_tells_the_expected_story_in_transformers(stories, tmp_path):
    source, directory = stories
    to_hf(directory, tmp_path / "out")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    start = torch.tensor([[tokenizer.bos_token_id]])
    ids = model.generate(start, max_new_tokens=200, do_sample=False)[0]
    assert len(ids) == 201
    text = tokenizer.decode(ids, skip_special_tokens=True)
    assert text.strip() == (source / "expected_greedy_200.txt").read_text().strip()
    story = "Once upon a time, Tim  saw\na dog.\U0001f415"
    want = open_model(directory).tokenizer
    assert want is not None
    assert tokenizer.encode(story) == [1, *want.encode(story)]


def write_file(path, tied, heads=4, kv_heads=2, dim=16, hidden=20, layers=2, vocab=30, length=12):
    """A random llama2.c file by its own layout, and its blocks in order."""
    rng = np.random.default_rng(1)
    kv, half = dim // heads * kv_heads, dim // heads // 2
    shapes = [
        (vocab, dim),
        (layers, dim),
        (layers, dim, dim),
        (layers, kv, dim),
        (layers, kv, dim),
        (layers, dim, dim),
    ]
    shapes += [(layers, dim), (layers, hidden, dim), (layers, dim, hidden), (layers, hidden, dim), (dim,)]
    shapes += [(length, half), (length, half)] + ([] if tied else [(vocab, dim)])
    blocks = [rng.standard_normal(shape).astype("<f4") for shape in shapes]
    header = np.array([dim, hidden, layers, heads, kv_heads, vocab if tied else -vocab, length], "<i4")
    path.write_bytes(header.tobytes() + b"".join(block.tobytes() for block in blocks))
    return blocks


def meta_rotary_scores(query, key, positions):
    """Attention scores of one head with Meta's rotation of neighbouring pairs, in float64."""

    def turn(x):
        pairs = x[:, 0::2] + 1j * x[:, 1::2]
        freqs = 10000.0 ** (-np.arange(0, x.shape[1], 2) / x.shape[1])
        return pairs * np.exp(1j * positions[:, None] * freqs)

    return (turn(query) @ turn(key).conj().T).real


@pytest.mark.parametrize("tied", [True, False])
def test_every_block_lands_where_it_belongs(tmp_path, tied):
    blocks = write_file(tmp_path / "m.bin", tied)
    weights = Llama2cWeights(tmp_path / "m.bin")
    read = weights.read
    np.testing.assert_array_equal(read(("embedder", "embedding"), None), blocks[0])
    np.testing.assert_array_equal(read(("layers", "post_attention_norm", "scale"), 1), blocks[6][1])
    np.testing.assert_array_equal(read(("layers", "attention", "v_proj", "kernel"), 1), blocks[4][1].T)
    np.testing.assert_array_equal(read(("layers", "attention", "o_proj", "kernel"), 0), blocks[5][0].T)
    for block, name in ((7, "gate_proj"), (8, "down_proj"), (9, "up_proj")):
        np.testing.assert_array_equal(read(("layers", "mlp", name, "kernel"), 1), blocks[block][1].T)
    np.testing.assert_array_equal(read(("final_norm", "scale"), None), blocks[10])
    assert (("lm_head", "kernel") in weights.leaves) is not tied
    if not tied:
        np.testing.assert_array_equal(read(("lm_head", "kernel"), None), blocks[13].T)


def test_queries_and_keys_turn_as_metas_do(tmp_path):
    from melama_jax.models import rope

    blocks = write_file(tmp_path / "m.bin", tied=True)
    weights = Llama2cWeights(tmp_path / "m.bin")
    x, positions = np.random.default_rng(2).standard_normal((6, 16)), np.arange(6)
    heads = {}
    for name, block in (("q_proj", 2), ("k_proj", 3)):
        theirs = (x @ blocks[block][1].T.astype(np.float64)).reshape(6, -1, 4)
        ours = (x @ weights.read(("layers", "attention", name, "kernel"), 1)).reshape(1, 6, -1, 4)
        turned = rope.rotate(ours.astype(np.float32), positions[None], rope.frequencies(weights.config))
        heads[name] = (theirs, np.asarray(turned)[0])
    for head in range(2):
        want = meta_rotary_scores(heads["q_proj"][0][:, head], heads["k_proj"][0][:, head], positions)
        got = heads["q_proj"][1][:, head] @ heads["k_proj"][1][:, head].T
        np.testing.assert_allclose(got, want, atol=1e-4)


def test_files_that_are_not_whole_are_refused(tmp_path, stories):
    source, _ = stories
    whole = (source / "stories260K.bin").read_bytes()
    bad = tmp_path / "bad.bin"
    for content, expected in (
        (whole[:-4], "1056540 bytes, as its header says"),
        (whole + b"0000", "1056540 bytes, as its header says"),
        (whole[:20], "a llama2.c file"),
        (b"24ka" + whole[4:], "version 0"),
        (b"\0" * 64, "version 0 header"),
        (b"", "a file with content"),
    ):
        bad.write_bytes(content)
        with pytest.raises(InputError, match=expected):
            from_llama2c(bad, tmp_path / "run", source / "tok512.model")
        assert not (tmp_path / "run").exists()


def test_a_tokenizer_of_another_model_is_refused(tmp_path, shared, stories):
    tokenizer = shared / "tokenizer_llama2" / "tokenizer.model"
    with pytest.raises(InputError, match=r"32000 ids.*at most 512"):
        from_llama2c(stories[0] / "stories260K.bin", tmp_path / "run", tokenizer)
    assert list(tmp_path.iterdir()) == []
