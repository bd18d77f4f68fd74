from collections import Counter

import pytest

from lightning_modules.data.order import index_at, random_seed_for, uniforms


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 16, 17, 100, 1009])
def test_each_epoch_holds_every_index_once(n):
    for epoch in range(3):
        assert sorted(index_at(7, epoch * n + i, n) for i in range(n)) == list(range(n))


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = {tuple(index_at(seed, epoch * 50 + i, 50) for i in range(50)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


def test_a_huge_number_of_samples_costs_no_memory():
    n = 10**15
    found = {index_at(0, position, n) for position in range(1000)}
    assert len(found) == 1000
    assert max(found) > n // 2


@pytest.mark.parametrize("n", [2, 3, 4, 5, 7])
def test_every_index_is_equally_likely_at_every_place(n):
    """Chi-square over 4,000 seeds; 50 is beyond one in a million for at most 6 degrees of freedom."""
    draws = 4000
    for place in range(n):
        counts = Counter(index_at(seed, place, n) for seed in range(draws))
        assert sum((counts[i] - draws / n) ** 2 / (draws / n) for i in range(n)) < 50


def test_every_permutation_of_four_occurs_about_equally_often():
    counts = Counter(tuple(index_at(seed, i, 4) for i in range(4)) for seed in range(6000))
    assert len(counts) == 24
    assert all(150 < count < 350 for count in counts.values())


def test_draws_are_functions_of_seed_position_and_purpose():
    assert random_seed_for(1, 2, "noise") == random_seed_for(1, 2, "noise") == 7036572375279642253
    different = {random_seed_for(s, p, name) for s in range(10) for p in range(10) for name in ("noise", "crop")}
    assert len(different) == 200
    assert all(0 <= seed < 2**63 for seed in different)


def test_uniform_numbers_fill_their_interval():
    numbers = [u for position in range(2500) for u in uniforms(3, position, "crop", 4)]
    assert 0 <= min(numbers) < 0.01 < 0.99 < max(numbers) < 1
    assert abs(sum(numbers) / len(numbers) - 0.5) < 0.01
    assert len(set(numbers)) == len(numbers)


def test_no_sample_has_no_position():
    with pytest.raises(ValueError, match="of 0 samples"):
        index_at(0, 0, 0)
