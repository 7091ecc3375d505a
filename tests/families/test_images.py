"""Images are read from files of MNIST's kind, and from a folder of pictures for each class."""

import numpy as np
import pytest
import torch

from tests.families.data import write_dataset, write_idx

pytestmark = pytest.mark.usefixtures("examples_on_path")


def load(folder):
    import images

    return images.load(folder)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_are_read_byte_by_byte(tmp_path, suffix):
    write_dataset(tmp_path, suffix=suffix)
    pixels = np.arange(24).reshape(2, 3, 4) * 10
    write_idx(tmp_path / f"t10k-images-idx3-ubyte{suffix}", pixels)
    write_idx(tmp_path / f"t10k-labels-idx1-ubyte{suffix}", np.array([1, 0]))
    _, test = load(tmp_path)
    torch.testing.assert_close(
        test.images, torch.tensor(pixels, dtype=torch.float32).unsqueeze(1) / 127.5 - 1
    )
    assert test.labels.tolist() == [1, 0]


def test_a_folder_of_pictures_for_each_class_is_read(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        for i in range(10):
            pixels = np.full((4, 5, 3), 100 * label + i, np.uint8)
            image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    train, test = load(tmp_path)
    assert train.images.shape == (18, 3, 4, 5)
    assert test.labels.tolist() == [0, 1]
    torch.testing.assert_close(test.images[:, 0, 0, 0], torch.tensor([9, 109]) / 127.5 - 1)


def test_a_batch_follows_from_its_generator(tmp_path):
    write_dataset(tmp_path)
    train, _ = load(tmp_path)
    one, other = (train.batch(5, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])


def test_a_folder_without_images_says_what_to_install(tmp_path):
    with pytest.raises(SystemExit, match="dataset-fashion-mnist"):
        load(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    write_dataset(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(SystemExit, match="t10k-labels-idx1-ubyte"):
        load(tmp_path)
