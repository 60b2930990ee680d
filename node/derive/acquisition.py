"""What the low-dose acquisition was, from classic or enhanced headers, as functional groups of Enhanced MR.

Everything is read by name and written anew: scanners' enhanced headers hold values outside the standard's terms,
and a copy would hand their errors on.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.valuerep import DSfloat

from node.derive.source import SourceSeries

_AGENTS = {  # PS3.16 CID 12, by what technologists type
    "gadoterate": "712714000", "dotarem": "712714000", "clariscan": "712714000", "gadobutrol": "407976008",
    "gadovist": "407976008", "gadavist": "407976008", "gadoteridol": "353946009", "prohance": "353946009",
    "gadobenate": "792865009", "multihance": "792865009", "gadopentetate": "109216000", "magnevist": "109216000",
}
_AGENT_MEANINGS = {
    "712714000": "Gadoterate meglumine", "407976008": "Gadobutrol", "353946009": "Gadoteridol",
    "792865009": "Gadobenate dimeglumine", "109216000": "Gadopentetate dimeglumine",
}
_TIMING = (
    "RepetitionTime", "FlipAngle", "EchoTrainLength", "RFEchoTrainLength", "GradientEchoTrainLength",
    "SpecificAbsorptionRateSequence", "OperatingModeSequence",
)
_AT_THE_TOP = (
    "MagneticFieldStrength", "PatientPosition", "AcquisitionDateTime", "RepetitionTime", "EchoTime", "InversionTime",
    "FlipAngle",
)


def acquisition_groups(source: SourceSeries) -> Dataset:
    """The MR macros (PS3.3 C.8.13.5) that the source has values for, as one item's worth of functional groups.

    A derived image may leave out what only an acquired one must state, but checkers do not see that condition: a macro
    that the source cannot fill is left out, and ``acquisition_attributes`` keeps what is known.
    """
    groups = Dataset()
    timing = _filled(source, _TIMING)
    if len(timing) == len(_TIMING):
        groups.MRTimingAndRelatedParametersSequence = [timing]
    echo_time = _first(source, "EffectiveEchoTime", "EchoTime")
    if echo_time is not None:
        echo = Dataset()
        echo.EffectiveEchoTime = float(echo_time)
        groups.MREchoSequence = [echo]
    averages = _filled(source, ("NumberOfAverages",))
    if averages:
        groups.MRAveragesSequence = [averages]
    return groups


def acquisition_attributes(source: SourceSeries) -> Dataset:
    """What stands at the top of the image: field, nucleus, time, position of the patient.

    Repetition, echo and inversion time and flip angle stand here too, under their classic names as a Standard Extended
    SOP Class may (PS3.2 7.3): viewers and routing rules look for them here.
    """
    attributes = _filled(source, _AT_THE_TOP)
    header = source.header
    if "AcquisitionDateTime" not in attributes and header.get("AcquisitionDate") and header.get("AcquisitionTime"):
        attributes.AcquisitionDateTime = f"{header.AcquisitionDate}{header.AcquisitionTime}"
    if "EchoTime" not in attributes and (echo_time := _first(source, "EffectiveEchoTime")) is not None:
        attributes.EchoTime = DSfloat(echo_time, auto_format=True)
    if "InversionTime" not in attributes and (inversion := _first(source, "InversionTimes")) is not None:
        attributes.InversionTime = DSfloat(np.ravel(inversion)[0], auto_format=True)
    attributes.ResonantNucleus = str(header.get("ResonantNucleus") or header.get("ImagedNucleus") or "1H")
    # IEC 60601-2-33 is what scanners conform to unless they say otherwise.
    attributes.ApplicableSafetyStandardAgency = str(header.get("ApplicableSafetyStandardAgency") or "IEC")
    return attributes


def contrast_agents(source: SourceSeries) -> list[Dataset]:
    """Contrast/Bolus Agent Sequence (PS3.3 C.7.6.4b): what was really injected before the low-dose series.

    From the source's own sequence, whose items hold no more than a code in classic MR, or from the agent's name in
    words. Empty if the source says nothing.
    """
    header = source.header
    agents = [_standard_only(item) for item in header.get("ContrastBolusAgentSequence") or []]
    text = str(header.get("ContrastBolusAgent") or "").strip()
    if not agents and text:
        known = next((value for word, value in _AGENTS.items() if word in text.casefold()), None)
        code = CodedConcept(known, "SCT", _AGENT_MEANINGS[known]) if known else codes.SCT.ContrastAgent
        agents = [Dataset()]
        agents[0].update(CodedConcept.from_code(code))
    for number, agent in enumerate(agents, start=1):
        for keyword, value in (
            ("ContrastBolusAgentNumber", number),
            ("ContrastBolusAdministrationRouteSequence", [CodedConcept.from_code(codes.SCT.IntravenousRoute)]),
            ("ContrastBolusIngredientCodeSequence", [CodedConcept.from_code(codes.cid13.Gadolinium)]),
            ("ContrastBolusVolume", header.get("ContrastBolusVolume")),
            ("ContrastBolusIngredientConcentration", header.get("ContrastBolusIngredientConcentration")),
        ):
            if not agent.get(keyword):
                setattr(agent, keyword, value)
    return agents


def contrast_usage(agents: list[Dataset]) -> list[Dataset]:
    """Contrast/Bolus Usage Sequence (PS3.3 C.7.6.16.2.12): the injection was given; what is seen is not measured."""
    usage = []
    for agent in agents:
        item = Dataset()
        item.ContrastBolusAgentNumber = agent.ContrastBolusAgentNumber
        item.ContrastBolusAgentAdministered = "YES"
        item.ContrastBolusAgentDetected = None
        usage.append(item)
    return usage


def _filled(source: SourceSeries, keywords: tuple[str, ...]) -> Dataset:
    item = Dataset()
    for keyword in keywords:
        value = _first(source, keyword)
        if value is not None:
            setattr(item, keyword, value)
    return item


def _first(source: SourceSeries, *keywords: str) -> Any | None:
    """The first value under any of the names: at the top, in the groups of all frames, or of the first."""
    for keyword in keywords:
        for dataset in _places(source.header):
            value = dataset.get(keyword)
            if value is not None and value != "" and value != []:
                return value
    return None


def _places(header: Dataset) -> Iterator[Dataset]:
    yield header
    of_all, of_each = (header.get(f"{of}FunctionalGroupsSequence") or [] for of in ("Shared", "PerFrame"))
    for groups in (*of_all[:1], *of_each[:1]):
        for element in groups:
            if element.VR == "SQ" and not element.tag.is_private:
                yield from element.value[:1]


def _standard_only(item: Dataset) -> Dataset:
    kept = copy.deepcopy(item)
    kept.remove_private_tags()
    return kept
