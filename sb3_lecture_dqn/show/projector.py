"""The files of TensorBoard's projector: embeddings, the labels of their rows, and coloured points."""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

#: Width and height of a point in pixels
_SIZE = 28
#: Colours that colour-blind readers can tell apart, by M. Okabe and K. Ito
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")


class Projector:
    """
    Collects embeddings, and writes the configuration of the projector.

    :param run: The run's folder
    """

    def __init__(self, run: pathlib.Path) -> None:
        from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

        self.run = run
        self.config = ProjectorConfig()

    def add(
        self, name: str, title: str, rows: np.ndarray, columns: Mapping[str, Sequence[Any]], colour_by: str
    ) -> None:
        """
        Write an embedding.

        The projector cannot be told by which column to colour the points at first, but it takes a picture for every
        point. So an embedding with such a column is there twice: first with coloured points, then with plain ones,
        which can be coloured by every column.

        :param name: Name of the folder
        :param title: Name in the projector
        :param rows: The vectors, shape ``(n, d)``
        :param columns: Labels by name of the column, n each
        :param colour_by: Column of words that colours the points, if there is such a column
        """
        folder = f"projector/{name}"
        (self.run / folder).mkdir(parents=True, exist_ok=True)
        np.savetxt(self.run / folder / "tensors.tsv", rows, "%.6g", delimiter="\t")
        header = [columns] if len(columns) > 1 else []
        lines = ["\t".join(map(str, line)) for line in (*header, *zip(*columns.values(), strict=True))]
        (self.run / folder / "metadata.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        paths = {"tensor_path": f"{folder}/tensors.tsv", "metadata_path": f"{folder}/metadata.tsv"}
        if colour_by in columns:
            words = list(columns[colour_by])
            draw_points(words, self.run / folder / "points.png")
            coloured = self.config.embeddings.add(tensor_name=f"{title}, by {colour_by}", **paths)
            title = f"{title}, plain points"  # the projector shows the first name of the alphabet first
            coloured.sprite.image_path = f"{folder}/points.png"
            coloured.sprite.single_image_dim.extend([_SIZE, _SIZE])
        self.config.embeddings.add(tensor_name=title, **paths)

    def write(self) -> None:
        """Write the configuration, if there are embeddings."""
        from google.protobuf import text_format

        if self.config.embeddings:
            text = text_format.MessageToString(self.config)
            (self.run / "projector_config.pbtxt").write_text(text, encoding="utf-8")


def draw_points(words: Sequence[str], path: pathlib.Path) -> None:
    """
    Draw a disc for every word, in the word's colour and with its first letter, in rows of one square picture.

    :param words: The words, of which there may be a few different ones
    :param path: The picture
    """
    from PIL import Image, ImageDraw

    n_columns = math.ceil(math.sqrt(len(words)))
    picture = Image.new("RGBA", (n_columns * _SIZE, n_columns * _SIZE))
    discs = {}
    for number, word in enumerate(sorted(set(words))):
        disc = Image.new("RGBA", (_SIZE, _SIZE))
        draw = ImageDraw.Draw(disc)
        draw.ellipse((1, 1, _SIZE - 2, _SIZE - 2), fill=_COLOURS[number % len(_COLOURS)], outline="black")
        draw.text((_SIZE / 2, _SIZE / 2), word[:1].upper(), fill="black", anchor="mm", font_size=16)
        discs[word] = disc
    for place, word in enumerate(words):
        picture.paste(discs[word], (place % n_columns * _SIZE, place // n_columns * _SIZE))
    picture.save(path)
