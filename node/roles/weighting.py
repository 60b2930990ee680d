"""What a series shows, from how it was acquired: T1, FLAIR, DWI, ADC, or nothing the product needs.

Times in ms, angles in degrees, b in s/mm². Names speak only where the header is silent about the physics.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from node.header.frames import Stack
from node.roles.rules import RoleRules, Words
from node.roles.series_facts import SeriesFacts, images_per_slice, places

MR_IMAGES = {
    "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4",
}  # fmt: skip


class Kind(StrEnum):
    """What a series can be before contrast and time are looked at."""

    T1 = "T1-weighted"
    FLAIR = "T2-FLAIR"
    DWI = "diffusion-weighted"
    ADC = "ADC map"


@dataclass(frozen=True)
class Weighting:
    """``family`` names the sequence ("gradient echo"); ``because`` is one phrase with the numbers.

    ``nearly`` is what the series would be without the defect that ``because`` tells of.
    """

    kind: Kind | None
    because: str
    family: str = ""
    by_name: bool = False
    nearly: Kind | None = None


def weigh(series: SeriesFacts, rules: RoleRules) -> Weighting:
    """What the series shows, or None with the reason why it is of no use."""
    lead = series.lead
    if lead.modality != "MR":
        return Weighting(None, f"modality {lead.modality or 'missing'}, not MR")
    if lead.ours:
        return Weighting(None, "made by Quarterdose, not acquired")
    if lead.sop_class_uid not in MR_IMAGES:
        return Weighting(None, "not an MR image object (SOP class " + lead.sop_class_uid + ")")
    excluded = _excluded(series, rules)
    if excluded:
        return Weighting(None, excluded)
    series = series.with_stacks(useful(series, rules))
    shown = _diffusion(series, rules) or _anatomy(series, rules)
    if shown.kind is not None:
        defect = _defect(series, shown.kind, rules)
        if defect:
            return Weighting(None, f"{shown.because}, but {defect}", nearly=shown.kind)
    return shown


def useful(series: SeriesFacts, rules: RoleRules) -> tuple[Stack, ...]:
    """The stacks whose image type does not rule them out (a phase image beside its magnitude)."""
    return tuple(stack for stack in series.stacks if not _has(stack.image_type, rules.excluded_image_types))


def is_adc(stack: Stack, rules: RoleRules) -> bool:
    """Whether these images are a scanner's ADC map; Philips may keep them in the DWI series."""
    return _has(stack.image_type, rules.adc_image_types)


def is_trace(stack: Stack, rules: RoleRules) -> bool:
    """Whether these images are averaged over the diffusion directions."""
    return _has(stack.image_type, rules.trace_image_types)


def named(series: SeriesFacts, words: Words) -> bool:
    """Whether the series' description or protocol holds one of the words; two-letter words must stand alone."""
    text = f"{series.lead.series_description} {series.lead.protocol_name}".casefold()
    parts = "".join(letter if letter.isalnum() else " " for letter in text).split()
    return any(word in (parts if len(word) <= 2 else text) for word in map(str.casefold, words))


def numbers(series: SeriesFacts) -> str:
    """The numbers that decide, for the sentence: "TR 2300, TE 3, TI 900 ms, flip 9°"."""
    lead = series.lead
    times = [f"{name} {value:.3g}" if value < 100 else f"{name} {value:.0f}"
             for name, value in (("TR", lead.tr_ms), ("TE", lead.te_ms), ("TI", lead.ti_ms))
             if value is not None]  # fmt: skip
    flip = [] if lead.flip_deg is None else [f"flip {lead.flip_deg:g}°"]
    return ", ".join(([", ".join(times) + " ms"] if times else []) + flip) or "no timing in the header"


def _has(image_type: Words, words: Words) -> bool:
    return any(value.upper() in words for value in image_type)


def _excluded(series: SeriesFacts, rules: RoleRules) -> str:
    lead = series.lead
    if not useful(series, rules):
        words = {value for stack in series.stacks for value in stack.image_type}
        found = sorted(words & set(rules.excluded_image_types))
        return f"Image Type {', '.join(found)}"
    if lead.complex_component in ("PHASE", "REAL", "IMAGINARY"):
        return f"{lead.complex_component.lower()} images, not magnitude"
    if lead.angio or lead.acquisition_contrast in ("TIME_OF_FLIGHT", "FLOW_ENCODED"):
        return "angiography"
    if lead.acquisition_contrast == "PERFUSION":
        return "perfusion"
    return f"localizer: slices in {len(series.planes)} orientations" if len(series.planes) > 1 else ""


def _diffusion(series: SeriesFacts, rules: RoleRules) -> Weighting | None:
    adc = [stack for stack in series.stacks if is_adc(stack, rules)]
    weighted = [stack for stack in series.stacks if not is_adc(stack, rules)]
    if not weighted or "mm2/s" in series.lead.units.replace("²", "2"):
        return Weighting(Kind.ADC, "ADC map of the scanner")
    b_values = sorted({stack.b_value for stack in weighted if stack.b_value is not None})
    written = ", ".join(f"{b:g}" for b in b_values)
    if any(b >= rules.dwi_high_b_min for b in b_values):
        trace = all(is_trace(stack, rules) for stack in weighted)
        what = "trace-weighted diffusion images" if trace else "diffusion-weighted images"
        if not any(b <= rules.dwi_low_b_max for b in b_values):
            return Weighting(
                None, f"{what} at b {written} only: without b ≤ {rules.dwi_low_b_max:g} "
                "there is no ADC to compute", nearly=Kind.DWI,
            )  # fmt: skip
        beside = ", ADC among its images" if adc else ""
        return Weighting(Kind.DWI, f"{what}, b {written} s/mm²{beside}", "trace" if trace else "raw")
    planar = "EP" in series.lead.scanning_sequence
    if series.lead.image_type[:1] == ("DERIVED",) and (planar or series.lead.tr_ms is None) and named(
        series, rules.names.adc
    ):
        return Weighting(Kind.ADC, "derived echo-planar map without b-values, named as ADC", by_name=True)
    if planar:
        what = f"b {written} only" if b_values else "no b-values"
        return Weighting(None, f"echo-planar, {what}: neither DWI nor ADC")
    return None


def _anatomy(series: SeriesFacts, rules: RoleRules) -> Weighting:
    lead, said = series.lead, numbers(series)
    per_slice = images_per_slice(series.stacks)
    if per_slice > 1:
        return Weighting(None, f"{per_slice} images at one place: dynamic or multi-echo, not one volume")
    if lead.te_ms is None:
        for kind, words in ((Kind.FLAIR, rules.names.flair), (Kind.T1, rules.names.t1)):
            if named(series, words):
                return Weighting(kind, f"named as {kind} (the header has no echo time to judge by)", "unknown", True)
        return Weighting(None, "no echo time in the header, and the name says nothing")
    inverted = "IR" in lead.scanning_sequence or lead.ti_ms is not None
    if inverted:
        return _inversion(series, rules, said)
    if _gradient(series):
        return _gradient_echo(series, rules, said)
    return _spin_echo(series, rules, said)


def _gradient(series: SeriesFacts) -> bool:
    """Gradient or spin echo; where the header does not say, TR and flip angle do: short TR is never spin echo."""
    lead = series.lead
    if {"GR", "SE"} & set(lead.scanning_sequence):
        return "GR" in lead.scanning_sequence
    return (lead.tr_ms is not None and lead.tr_ms < 60) or (lead.flip_deg is not None and lead.flip_deg < 45)


def _inversion(series: SeriesFacts, rules: RoleRules, said: str) -> Weighting:
    lead, te = series.lead, series.lead.te_ms or 0.0
    tr, ti = lead.tr_ms, lead.ti_ms
    if _gradient(series) and te <= rules.t1_gradient_max_te and _in(ti, rules.t1_inversion_ti):
        return Weighting(Kind.T1, f"T1-weighted inversion-recovery gradient echo ({said})", "inversion gradient echo")
    if te >= rules.flair_min_te and _in(ti, rules.flair_ti) and (ti is not None or (tr or 0) >= rules.flair_min_tr):
        return Weighting(Kind.FLAIR, f"T2-FLAIR: long inversion time, long echo time ({said})", "FLAIR")
    if (
        not _gradient(series) and te <= rules.t1_flair_max_te and _in(ti, rules.t1_flair_ti)
        and (tr or 0) <= rules.t1_flair_max_tr
    ):  # fmt: skip
        return Weighting(Kind.T1, f"T1-weighted inversion-recovery spin echo ({said})", "inversion spin echo")
    return Weighting(None, f"inversion recovery that is neither T1 nor FLAIR ({said})")


def _gradient_echo(series: SeriesFacts, rules: RoleRules, said: str) -> Weighting:
    lead, te = series.lead, series.lead.te_ms or 0.0
    if te > rules.t1_gradient_max_te:
        return Weighting(None, f"T2*-weighted gradient echo ({said})")
    if lead.tr_ms is not None and lead.tr_ms < rules.t1_gradient_min_tr:
        return Weighting(None, f"gradient echo with a very short TR: a scout or a calibration ({said})")
    if lead.tr_ms is not None and lead.tr_ms > rules.t1_gradient_max_tr:
        # A TR this long is the time between inversions, even where the inversion time is not written.
        if "MP" in lead.sequence_variant:
            return Weighting(
                Kind.T1, f"T1-weighted magnetisation-prepared gradient echo ({said})", "inversion gradient echo"
            )
        return Weighting(None, f"gradient echo with a long TR: proton density ({said})")
    if lead.flip_deg is not None and lead.flip_deg < rules.t1_gradient_min_flip:
        return Weighting(None, f"gradient echo with a small flip angle: proton density ({said})")
    short = lead.tr_ms is not None and lead.tr_ms <= rules.balanced_max_tr
    if short and lead.flip_deg is not None and lead.flip_deg >= rules.balanced_min_flip:
        return Weighting(None, f"balanced or angiographic gradient echo ({said})")
    return Weighting(Kind.T1, f"T1-weighted spoiled gradient echo ({said})", "spoiled gradient echo")


def _spin_echo(series: SeriesFacts, rules: RoleRules, said: str) -> Weighting:
    lead, te = series.lead, series.lead.te_ms or 0.0
    if lead.tr_ms is not None and lead.tr_ms <= rules.t1_spin_max_tr and te <= rules.t1_spin_max_te:
        return Weighting(Kind.T1, f"T1-weighted spin echo ({said})", "spin echo")
    if te < rules.flair_min_te:
        return Weighting(None, f"spin echo, neither T1 nor FLAIR: proton density or T2 ({said})")
    silent = not lead.scanning_sequence and (lead.tr_ms or 0) >= rules.flair_min_tr
    if silent and named(series, rules.names.flair):
        return Weighting(
            Kind.FLAIR, f"long TR and TE, named as FLAIR; whether there is an inversion is not written ({said})",
            "FLAIR", True,
        )  # fmt: skip
    return Weighting(None, f"T2-weighted spin echo ({said})")


def _defect(series: SeriesFacts, kind: Kind, rules: RoleRules) -> str:
    """What keeps a series of the right kind from being a volume of the brain, or ""."""
    if not any(header.has_pixel_data for header in series.headers):
        return "none of its instances has pixel data"
    found = places(series.stacks)
    if not found:
        return "its geometry is missing (Image Position or Image Orientation)"
    if len(found) < rules.min_slices:
        return f"it has only {len(found)} slices (at least {rules.min_slices})"
    coverage = found[-1] - found[0] + (series.lead.slice_thickness or series.spacing)
    if coverage < rules.min_coverage_mm:
        return f"it covers only {coverage:.0f} mm (at least {rules.min_coverage_mm:g} mm)"
    coarsest = max(series.voxel[:2])
    limit = rules.max_in_plane_mm * (2 if kind in (Kind.DWI, Kind.ADC) else 1)
    return f"its pixels are {coarsest:.2g} mm (at most {limit:g} mm)" if coarsest > limit else ""


def _in(value: float | None, limits: tuple[float, float]) -> bool:
    """Whether the value lies in the range; a value that is not written does not speak against it."""
    return value is None or limits[0] <= value <= limits[1]
