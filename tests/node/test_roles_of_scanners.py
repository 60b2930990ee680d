"""Roles of what the simulated scanners write: every vendor and layout, whatever became of names and contrast tags."""

from __future__ import annotations

import pytest

from benchmarks.header_study import HeaderStudy, header_study, scanners
from benchmarks.role_variants import NAME_VARIANTS, SITE_VARIANTS, Variant, names_removed
from node.roles.rules import RoleRules
from simulator.scanner import Layout, Scanner, Vendor

SEED = 3
SCANNERS = [scanner for scanner in scanners() if scanner.scanner_adc == (scanner.t1_sequence == "mprage")]
ONE_OF_EACH = [scanner for scanner in SCANNERS if scanner.field_tesla == 3.0 and scanner.t1_sequence == "mprage"]
# Headers differ most between these: contrast in the data set itself or in sequences, TR of the cycle or of the echoes.
OPPOSITES = [
    Scanner(Vendor.SIEMENS, 3.0, Layout.MOSAIC, "spgr", scanner_adc=True),
    Scanner(Vendor.PHILIPS, 1.5, Layout.ENHANCED, "mprage", directions=3),
]
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


@pytest.mark.parametrize("scanner", SCANNERS, ids=named)
def test_every_scanner_without_names(scanner: Scanner) -> None:
    assert_roles(names_removed(study_of(scanner), SEED))


@pytest.mark.parametrize("variant", NAME_VARIANTS, ids=lambda variant: variant.__name__)
@pytest.mark.parametrize("scanner", ONE_OF_EACH, ids=named)
def test_names_change_nothing(scanner: Scanner, variant: Variant) -> None:
    assert_roles(variant(study_of(scanner), SEED))


@pytest.mark.parametrize("variant", SITE_VARIANTS, ids=lambda variant: variant.__name__)
@pytest.mark.parametrize("scanner", OPPOSITES, ids=named)
def test_what_sites_do_never_gives_a_wrong_role(scanner: Scanner, variant: Variant) -> None:
    assert_roles(names_removed(variant(study_of(scanner), SEED), SEED))
