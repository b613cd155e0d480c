"""What other codes call the arrays of a contract: a parameter's name is read word by word.

`policy_chosen_logps`, `ref_log_prob`, `pi_old_logprobs`, `response_mask` say what they are. They do not say whether a
log-prob is one token's, a response's sum or its mean: that is a convention of each code, so all of it comes back, the
usual first, and `readings.prepared` tries them on the function.
"""

import itertools
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ROLES = {
    "": "policy pol pi model new current curr cur trainer actor",
    "ref_": "ref reference sft base",
    "old_": "old prev previous behavior behaviour behav inference rollout generation sampling sampler proximal",
}
SIDES = {
    "chosen_": "chosen preferred accepted winner winning win w yw positive pos",
    "rejected_": "rejected dispreferred loser losing lose l yl negative neg",
}
FORMS = {
    "mean": "mean avg average averaged normalized",
    "sum": "sum summed total seq sequence",
    "token": "token tokens",
}
QUANTITIES = {
    "logp": "logp logps logprob logprobs logpi",
    "mask": "mask masks",
    "length": "length lengths len lens",
    "advantages": "advantage advantages adv advs",
    "rewards": "reward rewards",
}
SILENT = "per all response responses completion completions action actions attention loss labels valid"
WHOLE = {  # names that are no sum of their words
    "group": "index uid uids group_ids group_id group_index prompt_index prompt_idx",
    "group_size": "num_generations n_samples_per_prompt num_samples_per_prompt rollout_n group_len",
    "mask": "padding_masks",  # torchtune's, true where a token counts; of `padding_mask` nobody knows which it is
}
ENDINGS = {"token": "logps", "sum": "logp", "mean": "mean_logp"}
WORDS = {
    "token": "per-token log-probs [B, T]",
    "sum": "log-probs summed over each response [B]",
    "mean": "log-probs averaged over each response's tokens [B]",
}


@dataclass(frozen=True)
class Said:
    """What a name says. form: of log-probs and advantages, empty where it does not say."""

    quantity: str
    role: str = ""
    side: str = ""
    form: str = ""


def said(name: str) -> Said | None:
    """What a parameter's name says, or None if one of its words is none of the field's.

    >>> said("reference_chosen_logps")
    Said(quantity='logp', role='ref_', side='chosen_', form='')
    """
    for quantity, spelled in WHOLE.items():
        if name in spelled.split():
            return Said(quantity)
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    text = re.sub(r"log_?(p(rob)?s?|pi)(?=_|$)", r"log\1", text)
    words = [word for word in text.split("_") if word not in SILENT.split()]
    found: dict[str, list[str]] = {"quantity": [], "role": [], "side": [], "form": []}
    for word in words:
        for field, table in (("quantity", QUANTITIES), ("role", ROLES), ("side", SIDES), ("form", FORMS)):
            meanings = [meaning for meaning, spelled in table.items() if word in spelled.split()]
            if meanings:
                found[field].append(meanings[0])
                break
        else:
            return None
    roles = [role for role in found["role"] if role] or found["role"]  # "pi_old": the old policy
    if found["side"] and found["role"] and not found["quantity"]:
        found["quantity"] = ["logp"]  # policy_chosen
    if len(found["quantity"]) != 1 or any(len(set(parts)) > 1 for parts in (roles, found["side"], found["form"])):
        return None
    quantity, (role, side, form) = (
        found["quantity"][0],
        ((*parts, "")[0] for parts in (roles, found["side"], found["form"])),
    )
    form = "" if quantity == "mask" else form  # a token mask is a mask
    if quantity not in ("logp", "advantages") and (role or form):
        return None
    return Said(quantity, role, side, form)


def canonical(meant: Said, form: str) -> str:
    """Our name of the array, in this form."""
    if meant.quantity == "logp":
        return f"{meant.role}{meant.side}{ENDINGS[form]}"
    if meant.quantity == "advantages":
        return "token_advantages" if form == "token" else "advantages"
    return f"{meant.side}{meant.quantity}"


def readings(
    parameters: Mapping[str, Any], arrays: Collection[str], fixed: Collection[str], *, averaged: bool
) -> list[dict[str, str]]:
    """Ways to read a signature, the usual one first: parameter -> canonical array.

    Args:
        parameters: of the function, with their defaults.
        arrays: canonical names that the family has.
        fixed: parameters whose meaning the user gave.
        averaged: whether the objective's usual inputs are mean log-probs (SimPO's are).
    """
    names = {name: meant for name in parameters if name not in fixed and (meant := said(name))}
    ours_already = _by_contract(names, arrays)
    found: list[dict[str, str]] = []
    for logp, advantage in itertools.product(_forms(names, averaged=averaged), _advantage_forms(names)):
        reading: dict[str, str] = {}
        for name, meant in names.items():
            exact = name in arrays and (ours_already or meant.quantity not in ("logp", "advantages"))
            form = meant.form or (advantage if meant.quantity == "advantages" else logp)
            ours = name if exact else canonical(meant, form)
            spare = ours in reading.values() and parameters[name] is None  # a second one that may be left out
            if ours in arrays and not spare:
                reading[name] = ours
        if reading not in found:
            found.append(reading)
    return found or [{}]


def _by_contract(names: Mapping[str, Said], arrays: Collection[str]) -> bool:
    """Whether the log-probs are named as the contract has them: sums by `logp`, or sums and tokens side by side."""
    logps = {name: (meant.role, meant.side) for name, meant in names.items() if meant.quantity == "logp"}
    if any(name not in arrays for name in logps):
        return False
    return len(set(logps.values())) < len(logps) or all(name.endswith("logp") for name in logps)


def _forms(names: Mapping[str, Said], *, averaged: bool) -> Sequence[str]:
    """Forms of the log-probs, the likeliest first: with a mask tokens, with a length sums, else what is usual."""
    quantities = {meant.quantity for meant in names.values()}
    if "mask" in quantities:
        return ("token", "sum", "mean")
    if averaged and "length" not in quantities:
        return ("mean", "sum", "token")
    return ("sum", "token", "mean")


def _advantage_forms(names: Mapping[str, Said]) -> Sequence[str]:
    """verl's, OpenRLHF's and NeMo-RL's are one a token, TRL's one a sample; their masks tell them apart."""
    by_token = any(name.split("_")[0] in ("response", "action", "loss", "token") for name in names if "mask" in name)
    return ("token", "") if by_token else ("", "token")
