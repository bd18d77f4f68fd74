import numpy as np
import pytest
import torch

from lightning_modules.diffusion.loss import min_snr_weights, prior_preservation_loss


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    prediction, target = torch.randn((2, 5, 4, 3, 3), generator=generator).unbind()
    return prediction, target, torch.tensor([False, False, True, True, True])


def test_the_loss_is_the_instance_mean_and_the_weighted_class_mean():
    prediction, target, is_prior = batch()
    p, t = prediction.numpy().astype(np.float64), target.numpy().astype(np.float64)
    instance = ((p[:2] - t[:2]) ** 2).mean()
    prior = ((p[2:] - t[2:]) ** 2).mean()
    loss = prior_preservation_loss(prediction, target, is_prior, weight=0.3)
    np.testing.assert_allclose([x.item() for x in loss], [instance + 0.3 * prior, instance, prior], rtol=1e-6)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_min_snr_weighs_each_sample_of_both_halves_by_its_own_timestep(prediction_type):
    prediction, target, is_prior = batch()
    snr = torch.tensor([0.1, 40.0, 5.0, 2.0, 100.0])
    weights = min_snr_weights(snr, 5.0, prediction_type)
    if prediction_type == "epsilon":
        expected = [1.0, 5 / 40, 1.0, 1.0, 5 / 100]
    else:
        expected = [0.1 / 1.1, 5 / 41, 5 / 6, 2 / 3, 5 / 101]
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    errors = ((prediction - target) ** 2).double().mean((1, 2, 3)).numpy() * expected
    loss = prior_preservation_loss(prediction, target, is_prior, 2.0, weights)
    np.testing.assert_allclose(loss.total.item(), errors[:2].mean() + 2 * errors[2:].mean(), rtol=1e-5)


def test_a_batch_without_class_images_has_no_class_loss():
    prediction, target, _ = batch()
    loss = prior_preservation_loss(prediction, target, torch.zeros(5, dtype=torch.bool), 1.0)
    assert loss.prior == 0
    torch.testing.assert_close(loss.total, ((prediction - target) ** 2).mean())


def test_class_images_of_weight_0_have_no_gradient():
    prediction, target, is_prior = batch()
    prediction.requires_grad_()
    prior_preservation_loss(prediction, target, is_prior, 0.0).total.backward()
    assert prediction.grad[:2].abs().min() > 0
    assert prediction.grad[2:].abs().max() == 0
