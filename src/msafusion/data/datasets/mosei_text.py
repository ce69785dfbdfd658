"""Text of CMU-MOSEI and CMU-MOSI through a text model, loaded once per process."""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from msafusion.backbones import TextEncoder


@lru_cache(maxsize=1)
def text_encoder(name: str) -> "TextEncoder":
    """The model of a local folder or hub name, for use, loaded when it is first asked for.

    Raises:
        ValueError: the model does not exist or cannot be reached.
    """
    from msafusion.backbones import TextEncoder

    return TextEncoder.from_pretrained(name).eval()


def word_features(words: Sequence[str], name: str) -> tuple[np.ndarray, list[str]]:
    """Last hidden states of a sentence, one step per word: the mean over the pieces of the word.

    Args:
        words: of one segment, at least one.
        name: local folder or hub name of the model.

    Returns:
        float32 (words, channels), and notes: words without pieces, and those beyond the model's length, are zeros.
    """
    import torch

    encoder = text_encoder(name)
    config: Any = encoder.model.config
    longest = min(encoder.tokenizer.model_max_length, config.max_position_embeddings)
    tokens = encoder.tokenizer(
        list(words), is_split_into_words=True, truncation=True, max_length=longest, return_tensors="pt"
    )
    with torch.inference_mode():
        states = encoder(tokens["input_ids"], tokens["attention_mask"])[0].float().numpy()
    word_of = tokens.word_ids(0)
    pieces = [step for step, word in enumerate(word_of) if word is not None]
    owners = np.array([word_of[step] for step in pieces], dtype=np.int64)
    sums = np.zeros((len(words), states.shape[1]), np.float32)
    np.add.at(sums, owners, states[pieces])
    counts = np.bincount(owners, minlength=len(words))
    notes = []
    if without := int(np.count_nonzero(counts == 0)):
        notes.append(f"text: {without} words of {len(words)} have no piece in the model's {longest}, zeros for them")
    return sums / np.maximum(counts, 1)[:, None].astype(np.float32), notes


def token_features(ids: np.ndarray, mask: np.ndarray, name: str) -> np.ndarray:
    """Last hidden states of token numbers.

    Args:
        ids: (steps,).
        mask: (steps,), 1 where a token is real.
        name: local folder or hub name of the model.

    Returns:
        float32 (steps, channels); zeros where the mask is 0.
    """
    import torch

    with torch.inference_mode():
        tokens, real = (torch.from_numpy(np.asarray(values).astype(np.int64))[None] for values in (ids, mask))
        return (text_encoder(name)(tokens, real) * real[..., None])[0].float().numpy()
