"""A language model small enough to check by brute force: random Llama weights, bytes as tokens."""

import pytest

from hard import tiny


@pytest.fixture(scope="session")
def tiny_tokenizer():
    return tiny.tiny_tokenizer()


@pytest.fixture(scope="session")
def tiny_model():
    """Maker of models: tied (head is the input embedding), seed, spread."""
    return tiny.tiny_model


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """The tiny model as a folder that `from_pretrained` loads."""
    return tiny.save_tiny(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A cache of its own, so samples of the tiny model are not mixed with the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def cache_of_the_session(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def shared_cache(cache_of_the_session, monkeypatch):
    """One cache for many runs of the tiny model: what is in it is keyed by everything that decides it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_of_the_session))


@pytest.fixture(scope="session")
def naive_logps():
    """log-probs of responses in float64, one sequence at a time, through the model's own logits: float64 [n].

    Llama norms and rotates in float32 whatever the weights are, which leaves about 1e-7 a token.
    """
    import torch

    def logps(model, examples):
        assert next(model.parameters()).dtype == torch.float64
        values = []
        for e in examples:
            logits = model(input_ids=torch.tensor([e.prompt + e.response])).logits[0]
            values.append(
                sum(logits[len(e.prompt) + i - 1].log_softmax(-1)[token] for i, token in enumerate(e.response))
            )
        return torch.stack(values)

    return logps
