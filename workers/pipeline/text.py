"""Prompts to tokens to context vectors.

There is no word list: words are hashed, and so are the runs of three and four letters in them
(Bojanowski et al. 2017, arXiv:1607.04606). A form that training never saw, such as "swaying" for
"sway", shares most vectors with its relatives. A word without relatives gets vectors that training
left near zero.
"""

import re
import unicodedata
import zlib

import torch
from torch import Tensor, nn

PAD = 0  # no word, or no further piece of a word
PIECES = 16  # the word itself and up to 15 runs of letters
STOP_WORDS = frozenset(
    ["a", "an", "the", "of", "it", "its", "is", "are", "this", "that", "i", "my", "your", "with"]
)


class Tokeniser:
    """Turn prompts into rows of hashed pieces, (length, PIECES) int64."""

    def __init__(self, length: int, buckets: int, known: frozenset[str] = frozenset()):
        """`known`: the words to keep if a prompt is too long."""
        self.length = length
        self.buckets = buckets
        self.known = known

    def words(self, prompt: str) -> list[str]:
        """The meaningful words, in order. A long prompt loses its unknown words, then its end.

        Accents are removed. Text in other scripts has no words here.
        """
        plain = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode().lower()
        words = [word for word in re.findall(r"[a-z]+", plain) if word not in STOP_WORDS]
        if len(words) > self.length and self.known:
            words = [word for word in words if word in self.known]
        return words[: self.length]

    def __call__(self, prompt: str) -> Tensor:
        rows = torch.zeros((self.length, PIECES), dtype=torch.int64)
        for row, word in zip(rows, self.words(prompt), strict=False):
            pieces = [word, *_runs(f"<{word}>")][:PIECES]
            hashed = [1 + zlib.crc32(piece.encode()) % self.buckets for piece in pieces]
            row[: len(hashed)] = torch.tensor(hashed)
        return rows


def _runs(word: str) -> list[str]:
    """Runs of three letters, then of four, marked to tell them from words."""
    return [f"#{word[i : i + n]}" for n in (3, 4) for i in range(len(word) - n + 1)]


class TextEncoder(nn.Module):
    """Hashed pieces and two transformer layers, enough for captions of a dozen words."""

    def __init__(self, buckets: int, length: int, width: int):
        super().__init__()
        self.pieces = nn.Embedding(buckets + 1, width, padding_idx=PAD)
        nn.init.normal_(self.pieces.weight, std=0.02)  # untrained pieces must matter little
        with torch.no_grad():
            self.pieces.weight[PAD] = 0
        self.start = nn.Parameter(torch.randn(width) * 0.1)
        self.position = nn.Parameter(torch.randn(length + 1, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, nhead=4, dim_feedforward=2 * width, dropout=0.0, batch_first=True
        )
        # The nested-tensor fast path does not take bf16 on a CPU, and saves nothing here.
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Encode tokens (B, L, PIECES).

        Returns the context (B, L + 1, width), zero at padding, and the mean of the rest (B, width).
        The first vector stands for the whole prompt, so that an empty prompt has one, too.
        """
        word, runs = tokens[..., 0], tokens[..., 1:]
        count = (runs != PAD).sum(-1, keepdim=True).clamp(min=1)
        x = self.pieces(word) + self.pieces(runs).sum(-2) / count  # (B, L, D)
        x = torch.cat([self.start.expand(len(x), 1, -1), x], 1) + self.position
        absent = torch.cat([torch.zeros_like(word[:, :1]), word == PAD], 1).bool()
        x = self.layers(x, src_key_padding_mask=absent)
        present = (~absent).to(x.dtype)[..., None]
        x = x * present
        return x, x.sum(1) / present.sum(1)
