"""Where the data sets are published, in which parts, under which licence, and how they are cited.

A checksum is named only where the publisher names one: Zenodo lists an md5 for each file of a record, which is asked
for at download time; UTD-MHAD and CMU-MOSEI publish none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from urllib.parse import urlsplit, urlunsplit

from msafusion.data.download.fetch import DownloadError, read_json
from msafusion.streams import nearest


@dataclass(frozen=True)
class RemoteFile:
    """One file to download.

    Attributes:
        name: its name on disk.
        url: where it is.
        bytes: its size, where published.
        checksum: "md5:..." or "sha256:...", where published.
        folder: the folder below the target that it is unpacked in; empty: the target itself.
    """

    name: str
    url: str
    bytes: int | None = None
    checksum: str | None = None
    folder: str = ""


@dataclass(frozen=True)
class Source:
    """A published data set.

    Attributes:
        title: its name.
        page: where it is described.
        licence: what the publisher says about its use, in one or two sentences.
        citation: the paper to cite.
        parts: name of a part -> address of its file.
        usual: the parts that are downloaded where none are asked for.
        folders: name of a part -> folder below the target that it is unpacked in, where it is not the target itself.
    """

    title: str
    page: str
    licence: str
    citation: str
    parts: Mapping[str, str]
    usual: Sequence[str]
    folders: Mapping[str, str] = field(default_factory=dict)

    def chosen(self, patterns: Sequence[str] = ()) -> list[str]:
        """The parts that match one of the patterns, as `video_0?` does; without patterns the usual ones.

        Raises:
            ValueError: a pattern matches no part.
        """
        patterns = patterns or self.usual
        for pattern in patterns:
            if not any(fnmatchcase(part, pattern) for part in self.parts):
                raise ValueError(f"{self.title} has no part '{pattern}'; {nearest(pattern, self.parts)}")
        return [part for part in self.parts if any(fnmatchcase(part, pattern) for pattern in patterns)]

    def files(self, parts: Sequence[str], base_url: str | None = None) -> list[RemoteFile]:
        """The files of some parts.

        Args:
            parts: names from `parts`.
            base_url: scheme and host of a mirror that serves the same paths, which replace the publisher's.

        Raises:
            DownloadError: the publisher's list of files cannot be read, or lacks one.
        """
        return [self._file(part, rebase_url(self.parts[part], base_url)) for part in parts]

    def _file(self, part: str, url: str) -> RemoteFile:
        return RemoteFile(urlsplit(url).path.rpartition("/")[2], url, folder=self.folders.get(part, ""))


@dataclass(frozen=True)
class ZenodoSource(Source):
    """A data set in records of zenodo.org, whose API lists size and md5 of each file.

    `parts` names each file as `<record>/<file name>`.
    """

    def files(self, parts: Sequence[str], base_url: str | None = None) -> list[RemoteFile]:
        """The files of some parts, with their published sizes and checksums; asks Zenodo once a record."""
        listings: dict[str, dict[str, tuple[int, str]]] = {}
        found = []
        for part in parts:
            record, _, name = self.parts[part].partition("/")
            address = rebase_url(f"https://zenodo.org/api/records/{record}", base_url)
            if record not in listings:
                listings[record] = _listing(address)
            if name not in listings[record]:
                raise DownloadError(
                    f"'{address}' lists no file '{name}' ({nearest(name, listings[record])}); see {self.page}."
                )
            size, checksum = listings[record][name]
            folder = self.folders.get(part, "")
            found.append(RemoteFile(name, f"{address}/files/{name}/content", size, checksum, folder))
        return found


def rebase_url(url: str, base_url: str | None) -> str:
    """An address on a mirror: its path below the mirror's address.

    Raises:
        ValueError: the mirror's address is not http or https.
    """
    if base_url is None:
        return url
    base, path = urlsplit(base_url), urlsplit(url).path
    if base.scheme not in ("http", "https") or not base.netloc:
        raise ValueError(f"--base_url is '{base_url}', expected http://host or https://host of a mirror; correct it.")
    return urlunsplit((base.scheme, base.netloc, base.path.rstrip("/") + path, "", ""))


def _listing(address: str) -> dict[str, tuple[int, str]]:
    """File name -> (bytes, "md5:...") of a Zenodo record."""
    try:
        return {str(file["key"]): (int(file["size"]), str(file["checksum"])) for file in read_json(address)["files"]}
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, DownloadError):
            raise
        raise DownloadError(
            f"'{address}' is not a list of files as Zenodo gives it ({error!r}); try again later."
        ) from None


RAVDESS = ZenodoSource(
    title="RAVDESS, speech (audio-visual clips of 24 actors) and its facial landmarks",
    page="https://zenodo.org/records/1188976 and https://zenodo.org/records/3255102",
    licence="Creative Commons Attribution-NonCommercial-ShareAlike 4.0 (CC BY-NC-SA 4.0), "
    "https://creativecommons.org/licenses/by-nc-sa/4.0/; for commercial use its authors sell licences.",
    citation="Livingstone SR, Russo FA (2018). The Ryerson Audio-Visual Database of Emotional Speech and Song "
    "(RAVDESS). PLoS ONE 13(5): e0196391, doi 10.1371/journal.pone.0196391; landmarks: Swanson, Livingstone, Russo "
    "(2019), doi 10.5281/zenodo.3255102.",
    parts={f"video_{actor:02d}": f"1188976/Video_Speech_Actor_{actor:02d}.zip" for actor in range(1, 25)}
    | {"audio": "1188976/Audio_Speech_Actors_01-24.zip", "landmarks": "3255102/FacialTracking_Actors_01-24.zip"},
    usual=("video_*", "landmarks"),
    folders={"landmarks": "landmarks"},
)

_UTD = "https://personal.utdallas.edu/~kehtar/UTD-MAD"
UTD_MHAD = Source(
    title="UTD-MHAD (27 actions of 8 subjects: skeleton, inertial, depth, RGB)",
    page="https://personal.utdallas.edu/~kehtar/UTD-MHAD.html",
    licence="no licence text is published with it; its paper calls it freely available. Cite it, and ask its authors "
    "about anything but research.",
    citation="Chen C, Jafari R, Kehtarnavaz N (2015). UTD-MHAD: A multimodal dataset for human action recognition "
    "utilizing a depth camera and a wearable inertial sensor. IEEE International Conference on Image Processing.",
    parts={name.lower(): f"{_UTD}/{name}.zip" for name in ("Skeleton", "Inertial", "Depth", "RGB", "Sample_Code")},
    usual=("skeleton", "inertial"),
)

_CMU = "http://immortal.multicomp.cs.cmu.edu/CMU-MOSEI"
_SDK = "https://raw.githubusercontent.com/CMU-MultiComp-Lab/CMU-MultimodalSDK/3e27d3781fe38b660432c7edfa7912bd0d256ee1"
MOSEI = Source(
    title="CMU-MOSEI (sentiment and emotion in videos: computational sequences of the CMU Multimodal SDK)",
    page="https://github.com/CMU-MultiComp-Lab/CMU-MultimodalSDK",
    licence="no licence text is published for the features (the SDK's code is MIT). They come from YouTube videos, "
    "which the authors do not share for their creators' privacy; ask the authors about anything but research.",
    citation="Zadeh A, Liang PP, Poria S, Cambria E, Morency LP (2018). Multimodal language analysis in the wild: "
    "CMU-MOSEI dataset and interpretable dynamic fusion graph. ACL 2018.",
    parts={
        "words": f"{_CMU}/language/CMU_MOSEI_TimestampedWords.csd",
        "phones": f"{_CMU}/language/CMU_MOSEI_TimestampedPhones.csd",
        "word_vectors": f"{_CMU}/language/CMU_MOSEI_TimestampedWordVectors.csd",
        "covarep": f"{_CMU}/acoustic/CMU_MOSEI_COVAREP.csd",
        "facet": f"{_CMU}/visual/CMU_MOSEI_VisualFacet42.csd",
        "openface": f"{_CMU}/visual/CMU_MOSEI_VisualOpenFace2.csd",
        "labels": f"{_CMU}/labels/CMU_MOSEI_Labels.csd",
        "folds": f"{_SDK}/mmsdk/mmdatasdk/dataset/standard_datasets/CMU_MOSEI/cmu_mosei_std_folds.py",
    },
    usual=("words", "covarep", "facet", "labels", "folds"),
)

SOURCES: dict[str, Source] = {"ravdess": RAVDESS, "utd_mhad": UTD_MHAD, "mosei": MOSEI}
"""Name on the command line -> published data set."""
