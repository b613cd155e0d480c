"""One claim that a test makes up, and what a run says of it."""

from derivations.prover import claims


def verdict(steps, monkeypatch, *, title="planted", scope="as the steps say", **options):
    """What a run says of one claim with these steps."""
    monkeypatch.setattr(claims, "CLAIMS", {})
    options = {"latex": "", "source": "planted", "scope": scope, **options}
    claims.claim("planted", title, **options)(steps if callable(steps) else lambda: steps)
    (result,) = claims.check_claims(list(claims.CLAIMS.values()))
    return result
