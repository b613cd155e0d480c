"""A small tabular world with pairs drawn from it."""

from toybandit.bandit import seed_streams, tabular_world
from toybandit.data import draw_pairs


def small(arms=6, seeds=2, count=40):
    streams = seed_streams(9, seeds)
    world = tabular_world(streams, prompts=2, arms=arms)
    return world, streams, draw_pairs(world, streams, count=count)
