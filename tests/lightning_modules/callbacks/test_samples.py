import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_modules.callbacks.samples import grid
from lightning_modules.train import command


def test_a_grid_has_rows_of_four_and_white_gaps():
    images = torch.arange(6, dtype=torch.uint8)[:, None, None, None].expand(6, 5, 7, 3)
    found = grid(images, gap_px=1)
    assert found.shape == (11, 31, 3)
    assert found[0, 0].tolist() == [0, 0, 0]
    assert found[6, 8].tolist() == [5, 5, 5]
    assert found[6, 16].tolist() == found[5, 0].tolist() == [255, 255, 255]


def test_grids_are_in_tensorboard_and_change_no_loss(arguments, tmp_path, scalars):
    fit = arguments(trainer__max_steps=4, samples__every_n_steps=2)
    assert command(fit) == 0
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"), size_guidance={"images": 0}).Reload()
    assert set(events.Tags()["images"]) == {"samples/a photo of sks cat", "samples/a photo of a cat"}
    images = events.Images("samples/a photo of sks cat")
    assert [image.step for image in images] == [0, 2, 4]
    assert (images[0].width, images[0].height) == (34, 16)
    assert len({image.encoded_image_string for image in images}) == 3

    without = [a.replace(str(tmp_path / "run"), str(tmp_path / "plain")) for a in fit] + ["--samples.prompts=[]"]
    assert command(without) == 0
    assert scalars(tmp_path / "plain") == scalars(tmp_path / "run")
