"""Small CMU-MOSEI and CMU-MOSI in their real forms: .csd files of the CMU SDK, pickles of MMSA and MultiBench."""

import json
import pickle

import h5py
import numpy as np

ROOTS = {
    "words": "words",
    "vectors": "glove_vectors",
    "audio": "COVAREP",
    "visual": "FACET 4.2",
    "labels": "All Labels",
}
NAMES = {
    "words": "CMU_MOSEI_TimestampedWords.csd",
    "vectors": "CMU_MOSEI_TimestampedWordVectors.csd",
    "audio": "CMU_MOSEI_COVAREP.csd",
    "visual": "CMU_MOSEI_VisualFacet42.csd",
    "labels": "CMU_MOSEI_Labels.csd",
}
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "bad", "film", "##ly"]


def write_csd(path, root, videos):
    """One computational sequence; `videos`: name -> (features, intervals)."""
    with h5py.File(path, "w") as file:
        for video, (features, intervals) in videos.items():
            group = file.create_group(f"{root}/data/{video}")
            group.create_dataset("features", data=features)
            group.create_dataset("intervals", data=np.asarray(intervals, np.float32).reshape(-1, 2))
        for key, value in {"root name": root, "creator": "tests", "dataset name": "CMU-MOSEI"}.items():
            data = file.create_dataset(f"{root}/metadata/{key}", (1,), dtype=h5py.string_dtype())
            data[0] = json.dumps(value)


def steps(start, end, rate):
    """Intervals of frames at a rate (Hz)."""
    edges = np.arange(round(start * rate), round(end * rate) + 1) / rate
    return np.stack([edges[:-1], edges[1:]], axis=1)


def words_of(*spoken):
    """Features and intervals of (word, start, end)."""
    return np.array([[word.encode()] for word, _, _ in spoken], dtype="S32"), [times for _, *times in spoken]


SPOKEN = (("a", 0, 0.5), ("good", 0.5, 1), ("sp", 1, 1.5), ("badly", 1.5, 2), ("film", 2, 3))


def one_video(seed, width=35, spoken=SPOKEN):
    """Role -> (features, intervals) of a video of 4 s with two labelled segments, 0-1.5 and 1.5-3 s."""
    random = np.random.default_rng(seed)
    frames, sounds = steps(0, 4, 10), steps(0, 4, 100)
    scores = np.round(random.uniform(-3, 3, (2, 7)), 2)
    return {
        "words": words_of(*spoken),
        "audio": (random.normal(size=(len(sounds), 74)).astype(np.float32), sounds),
        "visual": (random.normal(size=(len(frames), width)).astype(np.float32), frames),
        "labels": (scores.astype(np.float32), [[0, 1.5], [1.5, 3]]),
    }


def write_sdk(folder, videos, names=None):
    """A folder of .csd files; `videos`: name -> role -> (features, intervals)."""
    folder.mkdir(parents=True, exist_ok=True)
    for role in dict.fromkeys(role for parts in videos.values() for role in parts):
        held = {video: parts[role] for video, parts in videos.items() if role in parts}
        write_csd(folder / (names or NAMES)[role], ROOTS[role], held)
    return folder


def mmsa_split(videos, clips=2, steps=8, widths=(35, 74, 16), unaligned=False, seed=0):
    """One split as MMSA stores it; real text steps are 5, real sound and vision 4 and 3 of an unaligned file."""
    random, count = np.random.default_rng(seed), len(videos) * clips
    visual, audio, text = (random.normal(size=(count, steps, width)).astype(np.float32) for width in widths)
    tokens = np.zeros((count, 3, steps), np.float32)
    tokens[:, 0, :5], tokens[:, 1, :5] = [2, 5, 6, 8, 3], 1
    columns = {
        "raw_text": np.array(["a good film"] * count),
        "id": [f"{video}$_${clip}" for video in videos for clip in range(clips)],
        "vision": visual,
        "audio": audio,
        "text": text,
        "text_bert": tokens,
        "annotations": ["Positive"] * count,
        "regression_labels": np.round(random.uniform(-3, 3, count), 2).astype(np.float32),
        "classification_labels": np.ones(count),
    }
    if unaligned:
        columns |= {"audio_lengths": [4] * count, "vision_lengths": [3] * count}
        columns["audio"] = random.normal(size=(count, 2 * steps, widths[1])).astype(np.float32)
    else:
        visual[:, 5:], audio[:, 5:] = 0, 0
    return columns


def multibench_split(videos, steps=8, widths=(20, 5, 300), seed=0):
    """One split as MultiBench stores it: left-padded, ids are rows of video, start and end."""
    random = np.random.default_rng(seed)
    arrays = [random.normal(size=(len(videos), steps, width)).astype(np.float32) for width in widths]
    for values in arrays:
        values[:, :3] = 0
    ids = np.array([[video, f"{number}.5", f"{number + 1}.25"] for number, video in enumerate(videos)])
    labels = np.round(random.uniform(-3, 3, (len(videos), 1, 1)), 2)
    return {**dict(zip(("vision", "audio", "text"), arrays, strict=True)), "labels": labels, "id": ids}


def write_pickle(path, splits, protocol=4):
    path.write_bytes(pickle.dumps(splits, protocol))
    return path


def write_tiny_bert(folder):
    """A BERT of two layers and 16 channels with random weights, and its tokenizer, as `transformers` saves them."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    BertModel(BertConfig(vocab_size=len(VOCABULARY), **sizes)).save_pretrained(folder)
    BertTokenizer(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


FOLDS = {"train": ["v-0", "v_1"], "valid": ["v2"], "test": ["v3"]}


def mmsa(path, change=None, **options):
    splits = {split: mmsa_split(names, **options) for split, names in FOLDS.items()}
    if change is not None:
        change(splits)
    return write_pickle(path / "mosi.pkl", splits)


def multibench(path, change=None):
    splits = {split: multibench_split(names) for split, names in FOLDS.items()}
    if change is not None:
        change(splits)
    return write_pickle(path / "mosi_raw.pkl", splits)
