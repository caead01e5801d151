"""Prompts to tokens to context vectors.

The vocabulary is the list of words of the training captions and lies in the model's config.json.
A word that is not in it is ignored, so "the dahlia sways in a light breeze" is read as
"sways in light breeze": better than guessing a vector that was never trained.
"""

import re

import torch
from torch import Tensor, nn

PAD = 0  # also the whole of an empty prompt
ENDINGS = ("ly", "ing", "es", "ed", "s", "y", "")


def known_word(word: str, index: dict[str, int]) -> int | None:
    """Find a word as it is, or in another form: slowly, gently, rotating, hopped, wave(s)."""
    if word in index:
        return index[word]
    for ending in ENDINGS:
        if len(word) < len(ending) + 3 or not word.endswith(ending):
            continue
        stem = word.removesuffix(ending)
        single = stem[:-1] if stem[-1] == stem[-2] else stem
        for candidate in (stem, stem + "e", stem + "le", single, stem + "s", stem + "ing"):
            if candidate in index:
                return index[candidate]
    return None


class Tokeniser:
    """Turn prompts into rows of word numbers; PAD fills them up."""

    def __init__(self, vocabulary: list[str], length: int):
        self.length = length
        self.index = {word: number for number, word in enumerate(vocabulary, start=1)}

    def __call__(self, prompt: str) -> Tensor:
        """Return (length,) int64. Unknown words are left out, what is too long is cut."""
        words = re.findall(r"[a-z]+", prompt.lower())
        numbers = [n for word in words if (n := known_word(word, self.index)) is not None]
        numbers = numbers[: self.length]
        return torch.tensor(numbers + [PAD] * (self.length - len(numbers)))


class TextEncoder(nn.Module):
    """Word embeddings and one transformer layer: enough for captions of a dozen words."""

    def __init__(self, words: int, length: int, width: int):
        super().__init__()
        self.embedding = nn.Embedding(words + 1, width)
        self.position = nn.Parameter(torch.randn(length, width) * 0.02)
        self.layer = nn.TransformerEncoderLayer(
            width, nhead=4, dim_feedforward=2 * width, dropout=0.0, batch_first=True
        )

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(B, L) int64 -> context (B, L, width) and its mean over the words (B, width).

        PAD has a vector of its own in the context and is not masked there: an empty prompt must
        still give the attention something to look at. The mean of no words is zero.
        """
        context = self.layer(self.embedding(tokens) + self.position)
        said = (tokens != PAD).to(context.dtype)[..., None]
        return context, (context * said).sum(1) / said.sum(1).clamp(min=1)
