"""Text as a stream: the last hidden states of BERT, or any encoder that `transformers` knows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class TextEncoder(nn.Module):
    """A Hugging Face encoder with its tokenizer: sentences to a sequence of features (arXiv 2012.07175, sec. 4.2).

    MSAF takes the last layer of BERT base: 768 channels, at most 50 steps ([CLS], 48 word pieces, [SEP]).

    Args:
        model: an encoder that gives `last_hidden_state`, such as `transformers.BertModel`.
        tokenizer: its tokenizer.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> from transformers import BertConfig, BertModel, BertTokenizer
        >>> from msafusion.backbones import TextEncoder
        >>> words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "film"]
        >>> config = BertConfig(vocab_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
        >>> with TemporaryDirectory() as folder:
        ...     np.savetxt(f"{folder}/vocab.txt", words, fmt="%s")
        ...     encoder = TextEncoder(BertModel(config), BertTokenizer(f"{folder}/vocab.txt"))
        >>> features, lengths = encoder.encode(["a good film", "good"])
        >>> features.shape, lengths
        (torch.Size([2, 5, 16]), tensor([5, 3]))
    """

    def __init__(self, model: nn.Module, tokenizer: Any) -> None:
        super().__init__()
        self.model, self.tokenizer = model, tokenizer

    @classmethod
    def from_pretrained(cls, name: str | Path) -> "TextEncoder":
        """Load from a local folder, or by its name on the Hugging Face hub (such as "bert-base-uncased").

        Raises:
            ValueError: the model does not exist or cannot be reached.
            ModuleNotFoundError: transformers is not installed.
        """
        from transformers import AutoModel, AutoTokenizer

        try:
            # other formats than safetensors are read by torch.load(weights_only=True); no code of the model's own runs
            return cls(AutoModel.from_pretrained(str(name)), AutoTokenizer.from_pretrained(str(name)))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"no text model '{name}' ({' '.join(str(error).split())[:120]}...), expected a folder with its "
                "config.json, weights and tokenizer, or a name on the Hugging Face hub; check it, or download it first."
            ) from None

    @property
    def out_channels(self) -> int:
        """Features a step."""
        config: Any = self.model.config
        return int(config.hidden_size)

    def forward(
        self, input_ids: Int[Tensor, "batch time"], attention_mask: Int[Tensor, "batch time"] | None = None
    ) -> Float[Tensor, "batch time channels"]:
        """Last hidden states of token numbers; gradients flow, so the encoder can be trained on."""
        return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    def encode(
        self, sentences: Sequence[str], max_steps: int = 50
    ) -> tuple[Float[Tensor, "batch time channels"], Int[Tensor, " batch"]]:
        """Features of sentences, right-padded with zeros, and how many steps of each are real.

        Args:
            sentences: at least one.
            max_steps: tokens kept of a sentence, [CLS] and [SEP] among them.

        Raises:
            ValueError: no sentence.
        """
        if not sentences:
            raise ValueError("got no sentence, expected at least one; pass a list of strings.")
        device = next(self.model.parameters()).device
        options = {"padding": True, "padding_side": "right", "truncation": True, "max_length": max_steps}
        tokens = self.tokenizer(list(sentences), return_tensors="pt", **options).to(device)
        mask = tokens["attention_mask"]
        training = self.training
        try:
            with torch.no_grad():
                features = self.eval()(tokens["input_ids"], mask)
        finally:
            self.train(training)
        return features * mask.unsqueeze(2), mask.sum(dim=1)
