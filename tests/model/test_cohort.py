"""What goes into a cohort comes out, and what does not fit stays out."""

from dataclasses import replace

import numpy as np
import pytest

from model.cohort import Cohort, CohortError, left_out, write_subject
from preprocessing.volume import Role

from .tiny import ROLES, tiny_cohort, tiny_subject


def test_subjects_come_back_as_written(tmp_path):
    cohort = tiny_cohort(tmp_path, 3)
    assert [record.name for record in cohort.subjects] == ["subject_000", "subject_001", "subject_002"]
    assert cohort.roles == ROLES
    written, read = tiny_subject(1), cohort.read(cohort.subjects[1])
    for name in ("input", "target", "brain", "lesion"):
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name))
    cohort.verify()


def test_digest_tells_the_numbers_and_nothing_else(tmp_path):
    first, again = tiny_cohort(tmp_path / "a", 2), tiny_cohort(tmp_path / "b", 2)
    assert first.digest == again.digest
    backwards = tmp_path / "c"
    for seed in (1, 0):
        write_subject(backwards, f"subject_{seed:03d}", f"head_{seed}", ROLES, tiny_subject(seed, lesion=seed % 3 > 0))
    assert Cohort.open(backwards).digest == first.digest
    changed = replace(tiny_subject(1), lesion=tiny_subject(1).brain)
    write_subject(backwards, "subject_001", "head_1", ROLES, changed)
    assert Cohort.open(backwards).digest != first.digest
    assert first.with_roles([Role.LOW_DOSE]).digest != first.digest


def test_split_keeps_an_anatomy_together(tmp_path):
    cohort = tiny_cohort(tmp_path, 8)
    train, test = cohort.split({"head_1"})
    assert train.anatomies == ("head_0", "head_2", "head_3")
    assert [record.name for record in test.subjects] == ["subject_001", "subject_005"]
    assert len(train.subjects) == 6
    with pytest.raises(CohortError, match="head_9"):
        cohort.split({"head_9"})


def test_fewer_roles_pick_their_channels(tmp_path):
    cohort = tiny_cohort(tmp_path, 1).with_roles([Role.LOW_DOSE])
    np.testing.assert_array_equal(cohort.read(cohort.subjects[0]).input, tiny_subject(0, lesion=False).input[1:])
    with pytest.raises(CohortError, match="not adc"):
        cohort.with_roles([Role.ADC])


def test_changed_or_missing_arrays_are_found(tmp_path):
    cohort = tiny_cohort(tmp_path, 1)
    target = tmp_path / "subject_000" / "target.npy"
    np.save(target, np.zeros((32, 32, 32), np.float16))
    with pytest.raises(CohortError, match="subject_000"):
        cohort.verify()
    target.unlink()
    with pytest.raises(CohortError, match="write subject subject_000 again"):
        cohort.read(cohort.subjects[0])


@pytest.mark.parametrize(
    ("name", "content"),
    [("target.npy", b""), ("target.npy", b"\x93NUMPY"), ("brain.npy", None), ("scales.json", b"{"),
     ("scales.json", b"[]"), ("scales.json", b'{"t1": {"a": 1}}')],
)  # fmt: skip
def test_a_broken_file_of_a_subject_is_named(tmp_path, name, content):
    cohort = tiny_cohort(tmp_path, 1)
    path = tmp_path / "subject_000" / name
    path.write_bytes(path.read_bytes()[:-10] if content is None else content)
    with pytest.raises(CohortError, match=rf"{name} cannot be read .*write subject subject_000 again"):
        cohort.verify()


def test_a_broken_list_of_who_was_left_out_is_named(tmp_path):
    (tmp_path / "left_out.json").write_text("{")
    with pytest.raises(CohortError, match=r"left_out\.json cannot be read"):
        left_out(tmp_path)


def test_what_the_simulator_wrote_is_no_cohort_yet(tmp_path):
    (tmp_path / "cohort.json").write_text('{"anatomy": {}, "scanner": null}')  # the beginning of its own list
    with pytest.raises(CohortError, match=r"cohort add.*--from-simulator"):
        Cohort.open(tmp_path)


def test_pickled_arrays_are_not_read(tmp_path):
    cohort = tiny_cohort(tmp_path, 1)
    np.save(tmp_path / "subject_000" / "target.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(CohortError, match="cannot be read"):
        cohort.read(cohort.subjects[0])


@pytest.mark.parametrize(
    "content",
    [
        None, b"{", b"[]", b"\xff\xfe", b'{"format": 99}', b'{"format": 1}', b'{"format": 1, "roles": ["t9"]}',
        b'{"format": 1, "roles": ["t1"], "subjects": [{"x": 1}]}',
    ],
)  # fmt: skip
def test_a_folder_that_is_no_cohort_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "cohort.json").write_bytes(content)
    with pytest.raises(CohortError, match=r"cohort\.json"):
        Cohort.open(tmp_path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"input": np.zeros((3, 32, 32, 32), np.float16)}, "do not fit"),
        ({"target": np.zeros((32, 32, 32), np.float32)}, "target is float32"),
        ({"target": np.full((32, 32, 32), 1.5, np.float16)}, "target leaves"),
        ({"target": np.full((32, 32, 32), np.nan, np.float16)}, "target leaves"),
        ({"brain": np.zeros((32, 32, 32), bool)}, "brain mask is empty"),
        ({"lesion": np.zeros((16, 32, 32), bool)}, "lesion is bool"),
    ],
)
def test_a_subject_that_does_not_fit_is_refused(tmp_path, change, complaint):
    with pytest.raises(CohortError, match=complaint):
        write_subject(tmp_path, "subject", "head", ROLES, replace(tiny_subject(0), **change))
    assert not (tmp_path / "cohort.json").exists()


def test_a_name_that_is_a_path_is_refused(tmp_path):
    with pytest.raises(CohortError, match="cannot name"):
        write_subject(tmp_path, "../elsewhere", "head", ROLES, tiny_subject(0))


def test_a_subject_of_another_grid_does_not_join(tmp_path):
    tiny_cohort(tmp_path, 1)
    with pytest.raises(CohortError, match=r"has volumes of \(32, 32, 32\) voxels, the subject of \(48, 48, 48\)"):
        write_subject(tmp_path, "other", "head", ROLES, tiny_subject(0, side=48))
    write_subject(tmp_path, "subject_000", "head", ROLES, tiny_subject(0, side=48))  # the only one may change


def test_a_subject_of_other_roles_does_not_join(tmp_path):
    tiny_cohort(tmp_path, 1)
    with pytest.raises(CohortError, match="t1, adc"):
        write_subject(tmp_path, "other", "head", (Role.T1, Role.ADC), tiny_subject(0))
