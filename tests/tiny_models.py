"""Random two-layer transformers of 16 dimensions, which train and encode in milliseconds."""

from collections.abc import Iterable
from pathlib import Path

WORDS = ["the", "a", "red", "blue", "lamp", "chair", "desk", "query", "passage", "persona", "item"]


def write_tiny_model(
    folder: Path, words: Iterable[str] = WORDS, *, max_len: int = 64, prompts: dict[str, str] | None = None
) -> str:
    """Write a BERT that knows these words as a sentence-transformers directory, and return its path.

    The first of the prompts is the default one.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, set_seed

    set_seed(0)
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    fast.save_pretrained(folder / "bert")
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=max_len,
    )
    BertModel(config).save_pretrained(folder / "bert")
    transformer = Transformer(str(folder / "bert"), max_seq_length=32)
    model = SentenceTransformer(
        modules=[transformer, Pooling(16)],
        device="cpu",
        prompts=prompts,
        default_prompt_name=next(iter(prompts), None) if prompts else None,
    )
    model.save(str(folder / "model"), create_model_card=False)
    return str(folder / "model")
