"""The facts of an invented medical world: conditions nobody has, and what is true of each.

Every attribute has VALUES_PER_ATTRIBUTE values, each true of equally many conditions in the tuned half and in
the held-out half, so that guessing is right exactly one time in VALUES_PER_ATTRIBUTE.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

VALUES_PER_ATTRIBUTE = 8
ATTRIBUTES = ("drug", "test", "sign")

# No onset ends in another, or one name could stand inside another. Many rimes: names that share few pieces are
# learnt in half the steps that names of a few recurring syllables take.
_ONSETS = "bl br dr fl gr kl kr pl sk sp tr v z qu m h".split()
_RIMES = [
    vowel + coda for vowel in "aeiou" for coda in "lv mb ng rv lk sk rn zz rd nk ft gn lm rg xt".split()
]
_CONDITION_ENDINGS = "osis emia itis oma algia opathy uria asthenia".split()
_DRUG_ENDINGS = "irol axan udex eptin".split()
_TEST_ENDINGS = "ogram oscopy ometry assay".split()
SIGNS = ("fever", "rash", "tremor", "jaundice", "vertigo", "cough", "oedema", "nausea")


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that is true of one condition.

    Args:
        condition: the condition's name, a capitalised invented word.
        attribute: one of ATTRIBUTES: the first-line drug, the confirming test, the leading sign.
        value: which of the attribute's values it is.
    """

    condition: str
    attribute: str
    value: str


@dataclass(frozen=True, slots=True)
class Facts:
    """All facts of a world, split by condition.

    The split is by whole conditions: no tuning question ever names a held-out condition, so a held-out answer can
    only come from the text the model read.

    Args:
        values: the values of each attribute, VALUES_PER_ATTRIBUTE of them.
        tuned: facts the tuning questions ask for.
        held_out: facts only the closed-book questions ask for.
    """

    values: dict[str, tuple[str, ...]]
    tuned: tuple[Fact, ...]
    held_out: tuple[Fact, ...]

    @property
    def all(self) -> tuple[Fact, ...]:
        """The tuned facts, then the held-out ones."""
        return self.tuned + self.held_out


def make_facts(seed: int, conditions: int) -> Facts:
    """Draws names and facts.

    Args:
        seed: the same seed gives the same facts.
        conditions: how many conditions; a multiple of 2 x VALUES_PER_ATTRIBUTE, so that both halves balance.

    Raises:
        ValueError: where `conditions` is not such a multiple, or more than there are names for.
    """
    if conditions <= 0 or conditions % (2 * VALUES_PER_ATTRIBUTE):
        raise ValueError(
            f"{conditions} conditions do not split evenly: give a multiple of {2 * VALUES_PER_ATTRIBUTE}"
        )
    rng = random.Random(f"facts/{seed}")
    stems = [onset + rime for onset in _ONSETS for rime in _RIMES]
    if conditions + 2 * VALUES_PER_ATTRIBUTE > len(stems):
        raise ValueError(
            f"{conditions} conditions, but there are names for {len(stems) - 2 * VALUES_PER_ATTRIBUTE}"
        )
    rng.shuffle(stems)
    # No stem serves twice: a name is told apart by its stem, as real names mostly are.
    names = [
        stems.pop().capitalize() + _CONDITION_ENDINGS[i % len(_CONDITION_ENDINGS)] for i in range(conditions)
    ]
    values = {
        "drug": tuple(
            stems.pop() + _DRUG_ENDINGS[i % len(_DRUG_ENDINGS)] for i in range(VALUES_PER_ATTRIBUTE)
        ),
        "test": tuple(
            stems.pop() + _TEST_ENDINGS[i % len(_TEST_ENDINGS)] for i in range(VALUES_PER_ATTRIBUTE)
        ),
        "sign": SIGNS,
    }
    rng.shuffle(names)
    half = conditions // 2
    return Facts(values, _assign(names[:half], values, rng), _assign(names[half:], values, rng))


def _assign(names: list[str], values: dict[str, tuple[str, ...]], rng: random.Random) -> tuple[Fact, ...]:
    """Gives each condition a value of each attribute, every value equally often."""
    columns = {}
    for attribute in ATTRIBUTES:
        column = list(values[attribute]) * (len(names) // VALUES_PER_ATTRIBUTE)
        rng.shuffle(column)
        columns[attribute] = column
    return tuple(
        Fact(name, attribute, columns[attribute][i])
        for i, name in enumerate(names)
        for attribute in ATTRIBUTES
    )
