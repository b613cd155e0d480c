"""What a loss holds constant has no gradient in torch: CISPO's and WPO's weights, KTO's reference point."""

import numpy as np
import pytest
import torch

from derivations.off_policy import cispo
from derivations.preference_losses import kto, wpo

W, L = torch.tensor([[-1.2, -0.4]], dtype=torch.float64), torch.tensor([[-1.0, -0.9]], dtype=torch.float64)
ALL, ADVANTAGE = torch.tensor([[True, True]]), torch.tensor([0.7], dtype=torch.float64)
PAIR = {"ref_chosen_logp": L[:, 0], "ref_rejected_logp": L[:, 1], "beta": 0.5}
LENGTHS = dict.fromkeys(("chosen_length", "rejected_length"), torch.tensor([3.0], dtype=torch.float64))
GOOD = torch.tensor([[True, False]])


def gradient(loss):
    x = W.clone().requires_grad_()
    loss(x).sum().backward()
    return x.grad


def weight_of_wpo(x):
    return torch.exp(x.sum(-1) / 3)


def dpo_times(weight, x):
    margin = 0.5 * ((x[:, 0] - L[:, 0]) - (x[:, 1] - L[:, 1]))
    return -weight * torch.nn.functional.logsigmoid(margin)


def value(beta, x, z):
    lead = beta * (x - L) - beta * z
    return torch.where(GOOD, torch.sigmoid(-lead), torch.sigmoid(lead))


@pytest.mark.parametrize(
    ("loss", "held"),
    [
        (lambda x: cispo(x, L, ALL, ADVANTAGE), lambda x: -torch.exp(W - L).clamp(0, 5) * 0.7 * x),
        (lambda x: wpo(x[:, 0], x[:, 1], **PAIR, **LENGTHS), lambda x: dpo_times(weight_of_wpo(W), x)),
        (lambda x: kto(x, GOOD, ref_logp=L, kl=(x - L).sum(), beta=0.5), lambda x: value(0.5, x, (W - L).sum())),
    ],
    ids=["cispo", "wpo", "kto"],
)
def test_the_gradient_is_that_with_the_weight_as_a_number(loss, held):
    np.testing.assert_allclose(gradient(loss), gradient(held), rtol=1e-12)
