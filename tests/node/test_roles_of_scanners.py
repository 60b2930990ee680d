"""Roles of what the simulated scanners write: every vendor and layout, whatever became of names and contrast tags."""

from __future__ import annotations

import pytest

from benchmarks.header_study import HeaderStudy, header_study, scanners
from benchmarks.role_variants import CONTRAST_VARIANTS, NAME_VARIANTS, SITE_VARIANTS, Variant, names_removed
from node.roles.rules import RoleRules
from simulator.scanner import Layout, Scanner, Vendor

SEED = 3
MPRAGE = [scanner for scanner in scanners() if scanner.field_tesla == 3.0 and scanner.t1_sequence == "mprage"]
SPOILED = [scanner for scanner in scanners() if scanner.field_tesla == 1.5 and scanner.t1_sequence == "spgr"]
ONE_OF_EACH = [scanner for scanner in MPRAGE if scanner.scanner_adc]
# Headers differ most between these: contrast in the data set itself or in sequences, TR of the cycle or of the echoes.
CLASSIC = Scanner(Vendor.SIEMENS, 3.0, Layout.MOSAIC, "spgr", scanner_adc=True)
ENHANCED = Scanner(Vendor.PHILIPS, 1.5, Layout.ENHANCED, "mprage", directions=3)
STUDIES: dict[Scanner, HeaderStudy] = {}


def study_of(scanner: Scanner) -> HeaderStudy:
    if scanner not in STUDIES:
        STUDIES[scanner] = header_study(SEED, scanner)
    return STUDIES[scanner]


def named(scanner: Scanner) -> str:
    return f"{scanner.vendor}-{scanner.layout}-{scanner.field_tesla:g}T-{scanner.t1_sequence}"


def assert_roles(study: HeaderStudy) -> None:
    found = study.decisions(RoleRules())
    wrong = {name: one.because for name, one in found.items() if one.role != study.expected[name]}
    assert wrong == {}


@pytest.mark.parametrize("scanner", [scanner for scanner in SPOILED if not scanner.scanner_adc], ids=named)
def test_spoiled_gradient_echoes_without_names(scanner: Scanner) -> None:
    assert_roles(names_removed(study_of(scanner), SEED))


@pytest.mark.parametrize("variant", NAME_VARIANTS, ids=lambda variant: variant.__name__)
@pytest.mark.parametrize("scanner", ONE_OF_EACH, ids=named)
def test_names_change_nothing(scanner: Scanner, variant: Variant) -> None:
    assert_roles(variant(study_of(scanner), SEED))


@pytest.mark.parametrize("variant", SITE_VARIANTS, ids=lambda variant: variant.__name__)
def test_what_sites_do_never_gives_a_wrong_role(variant: Variant) -> None:
    assert_roles(names_removed(variant(study_of(ENHANCED), SEED), SEED))


@pytest.mark.parametrize("variant", CONTRAST_VARIANTS, ids=lambda variant: variant.__name__)
def test_the_same_where_contrast_tags_are_classic(variant: Variant) -> None:
    assert_roles(names_removed(variant(study_of(CLASSIC), SEED), SEED))
