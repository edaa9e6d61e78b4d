import numpy as np
import pytest

from personarank_dagster.encoding.encoder import load_model
from personarank_dagster.encoding.tokens import batches
from personarank_dagster.encoding.tokens.batches import Batch, text_reader, token_table

TEXTS = ["lamp", "the red lamp", "red chair", "the blue desk item"]


def batch_of(lengths: list[int]) -> Batch:
    rows = np.arange(len(lengths))
    counts = np.array(lengths)
    return Batch([str(row) for row in rows], rows, np.repeat(rows, counts), counts, rows % 2 == 0)


def test_a_window_is_read_longest_first(tiny_model_path: str) -> None:
    model = load_model(tiny_model_path, max_len=32, device="cpu")
    read = text_reader(model).read(TEXTS, place=10)
    assert read.places.tolist() == [13, 11, 12, 10]
    assert read.texts == [TEXTS[place - 10] for place in read.places]
    assert read.lengths.tolist() == [4, 3, 2, 1]
    expected = model.tokenizer(read.texts)["input_ids"]
    assert read.ids.tolist() == [token for ids in expected for token in ids]


def test_windows_keep_their_order_however_many_are_made_ahead(tiny_model_path: str) -> None:
    reader = text_reader(load_model(tiny_model_path, max_len=32, device="cpu"))
    windows = [[text] * number for number, text in enumerate(TEXTS * 3, start=1)]
    assert [len(read.texts) for read in reader.windows(windows)] == list(range(1, 13))
    places = np.concatenate([read.places for read in reader.windows(windows)])
    assert np.array_equal(places, np.arange(sum(range(1, 13))))


def test_a_part_has_the_tokens_of_its_texts() -> None:
    part = batch_of([4, 3, 2, 1]).part(1, 3)
    assert (part.texts, part.ids.tolist(), part.lengths.tolist()) == (["1", "2"], [1, 1, 1, 2, 2], [3, 2])
    assert batch_of([4, 3]).part(2).texts == []


def test_a_budget_takes_as_many_texts_as_fit_and_one_at_least() -> None:
    batch = batch_of([4, 3, 2, 1])
    assert [batch.within(budget) for budget in (1, 4, 6, 7, 9, 100)] == [1, 1, 1, 2, 3, 4]


def test_a_table_gives_the_tokens_of_any_texts_in_any_order(
    tiny_model_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "BLOCK_TEXTS", 3)
    model = load_model(tiny_model_path, max_len=32, device="cpu")
    table = token_table(text_reader(model, "query "), TEXTS)
    ids, lengths = table.of(np.array([3, 0, 3]))
    expected = [token for row in (3, 0, 3) for token in model.tokenizer(f"query {TEXTS[row]}")["input_ids"]]
    assert (ids.tolist(), lengths.tolist()) == (expected, [5, 2, 5])
    assert len(token_table(text_reader(model), []).ids) == 0
