"""Tokenizers and encoders that several families have, at toy size."""

import transformers

WORDS = ("waves", "gentle", "slow", "zoom", "in", "a", "cat", "looks", "up")
TEXT_WIDTH = 32


def t5_tokenizer() -> transformers.T5Tokenizer:
    pieces = ["<pad>", "</s>", "<unk>", "▁", *(f"▁{word}" for word in WORDS)]
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocabulary = [(piece, -float(n)) for n, piece in enumerate([*pieces, *letters])]
    return transformers.T5Tokenizer(vocab=vocabulary, extra_ids=0)


def t5_config(kind: type, width: int = TEXT_WIDTH) -> transformers.PretrainedConfig:
    return kind(
        vocab_size=64,
        d_model=width,
        d_kv=8,
        d_ff=37,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=0,
    )


def t5_encoder() -> transformers.T5EncoderModel:
    return transformers.T5EncoderModel(t5_config(transformers.T5Config))


def umt5_encoder() -> transformers.UMT5EncoderModel:
    return transformers.UMT5EncoderModel(t5_config(transformers.UMT5Config))


def clip_vision(cls: type, width: int = 16, side: int = 32) -> object:
    config = transformers.CLIPVisionConfig(
        hidden_size=width,
        projection_dim=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=side,
        intermediate_size=37,
        patch_size=side // 4,
    )
    return cls(config)


def clip_processor() -> transformers.CLIPImageProcessor:
    return transformers.CLIPImageProcessor(
        crop_size={"height": 32, "width": 32}, size={"shortest_edge": 32}
    )
