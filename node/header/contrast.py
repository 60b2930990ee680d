"""What a header says of the contrast agent: which, how much, when, and the dose in mmol/kg that follows from it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from node.header.elements import Elements

TAGS: list[str | int] = [
    "ContrastBolusAgent", "ContrastBolusVolume", "ContrastBolusTotalDose", "ContrastBolusIngredientConcentration",
    "ContrastBolusStartTime", "ContrastBolusAgentSequence", "PatientWeight",
]  # fmt: skip


@dataclass(frozen=True)
class Agent:
    """A gadolinium product: ``mmol_per_ml`` as sold, and the mg/ml that its labels print for that strength."""

    names: tuple[str, ...]
    mmol_per_ml: float
    mg_per_ml: tuple[float, ...]


# Strengths from the products' labels; where salt and free acid are both printed, both are listed.
AGENTS = (
    Agent(("gadoter", "dotarem", "clariscan", "dotagraf", "cyclolux", "artirem"), 0.5, (376.9, 279.3)),
    Agent(("gadobutrol", "gadavist", "gadovist"), 1.0, (604.7,)),
    Agent(("gadoteridol", "prohance"), 0.5, (279.3,)),
    Agent(("gadopiclenol", "elucirem", "vueway"), 0.5, (485.1,)),
    Agent(("gadoben", "multihance"), 0.5, (529.0, 334.0)),
    Agent(("gadopentet", "magnevist"), 0.5, (469.0,)),
    Agent(("gadodiamid", "omniscan"), 0.5, (287.0,)),
    Agent(("gadoversetamid", "optimark"), 0.5, (330.9,)),
    Agent(("gadoxet", "primovist", "eovist"), 0.25, (181.4,)),
    Agent(("gadofosveset", "ablavar", "vasovist"), 0.25, (244.0,)),
)

# No gadolinium product holds as little as 3 mg/ml: smaller numbers are mmol/ml, written in the wrong unit.
_LARGEST_MMOL_PER_ML = 3.0
# A total dose this much above the volume of the last injection was not given at once.
_MORE_THAN_ROUNDING = 1.1
_WRITTEN_DOSE = re.compile(r"(\d*[.,]?\d+)\s*mmol\s*/\s*kg", re.IGNORECASE)


@dataclass(frozen=True)
class Contrast:
    """Volumes in ml, concentration in mmol/ml, weight in kg, dose in mmol/kg; None for what is not written."""

    agent: str = ""
    administered: bool | None = None  # what Enhanced MR says outright: had the agent been given at this image?
    volume_ml: float | None = None
    total_dose_ml: float | None = None
    concentration_mmol_ml: float | None = None
    start: str = ""  # of the last injection
    injections: int | None = None  # as far as volume and total dose, or the list of agents, tell them apart
    weight_kg: float | None = None
    dose_mmol_kg: float | None = None


def contrast(elements: Elements, usage: list[Elements]) -> Contrast:
    """Read the Contrast/Bolus module or its Enhanced sibling (PS3.3 C.7.6.4 and C.7.6.4b).

    ``usage`` are the items of Contrast/Bolus Usage Sequence (0018,9341) of the first frame: of the agents that
    Contrast/Bolus Agent Sequence lists, only those marked as administered count. The dose is amount × concentration
    / weight, the amount being Contrast/Bolus Total Dose (0018,1044) where it is written, else the volume (0018,1041).
    """
    weight = elements.number("PatientWeight")
    agents = elements.items("ContrastBolusAgentSequence")
    numbers = {item.integer("ContrastBolusAgentNumber"): item.text("ContrastBolusAgentAdministered") for item in usage}
    administered: bool | None = None
    if numbers:
        administered = "YES" in numbers.values()
        agents = [item for item in agents if numbers.get(item.integer("ContrastBolusAgentNumber"), "") != "NO"]
    name = elements.text("ContrastBolusAgent") or next((_agent_name(item) for item in agents if _agent_name(item)), "")
    volume = elements.number("ContrastBolusVolume")
    if volume is None:
        volumes = [found for item in agents if (found := _volume(item)) is not None]
        volume = sum(volumes) if volumes else None
    written = elements.number("ContrastBolusIngredientConcentration")
    if written is None:
        written = next((c for i in agents if (c := i.number("ContrastBolusIngredientConcentration")) is not None), None)
    total = elements.number("ContrastBolusTotalDose")
    strength = concentration(name, written)
    start = elements.text("ContrastBolusStartTime") or next((_start(item) for item in agents[::-1] if _start(item)), "")
    return Contrast(
        agent=name, administered=administered, volume_ml=volume, total_dose_ml=total, concentration_mmol_ml=strength,
        start=start, injections=_injections(agents, volume, total), weight_kg=weight,
        dose_mmol_kg=_dose(name, total if total else volume, strength, weight),
    )  # fmt: skip


def concentration(agent: str, written: float | None) -> float | None:
    """Strength in mmol/ml from the agent's name and (0018,1049), which should be mg/ml and often is mmol/ml."""
    product = next((p for p in AGENTS if any(name in agent.casefold() for name in p.names)), None)
    if written is None or written <= 0:
        return None if product is None else product.mmol_per_ml
    if written <= _LARGEST_MMOL_PER_ML:
        return written
    if product is None:
        return None  # mg/ml of an unknown molecule
    label = min(product.mg_per_ml, key=lambda mg: abs(mg - written))
    return product.mmol_per_ml * written / label


def _injections(agents: list[Elements], volume: float | None, total: float | None) -> int | None:
    if agents:
        return len(agents)
    if not volume or not total:
        return None
    return 2 if total > _MORE_THAN_ROUNDING * volume else 1


def _dose(agent: str, amount: float | None, strength: float | None, weight: float | None) -> float | None:
    in_words = _WRITTEN_DOSE.search(agent)
    if in_words:
        return float(in_words.group(1).replace(",", "."))
    if amount == 0:
        return 0.0
    if amount is None or strength is None or not weight or weight < 0 or amount < 0:
        return None
    return round(amount * strength / weight, 6)


def _agent_name(item: Elements) -> str:
    named = [item.text("CodeMeaning")]
    named += [code.text("CodeMeaning") for code in item.items("ContrastBolusIngredientCodeSequence")]
    return next((name for name in named if name), "")


def _volume(item: Elements) -> float | None:
    volume = item.number("ContrastBolusVolume")
    if volume is not None:
        return volume
    steps = [step.number("ContrastBolusVolume") for step in item.items("ContrastAdministrationProfileSequence")]
    written = [step for step in steps if step is not None]
    return sum(written) if written else None


def _start(item: Elements) -> str:
    steps = item.items("ContrastAdministrationProfileSequence")
    return next((text for step in steps if (text := step.text("ContrastBolusStartTime"))), "")
