"""The configuration at its door: the shipped file is valid, and every mistake names key, value and remedy."""

from __future__ import annotations

import pytest

from node.roles.rules import RoleRules
from node.routing.rules import Rule
from node.settings import ConfigurationError, DeliverySettings, load_settings
from tests.conftest import ROOT


def test_the_shipped_configuration_runs_as_it_is_and_shows_every_key():
    settings = load_settings(ROOT / "config.toml")
    assert settings.receiver.host == "127.0.0.1", "loopback until someone says otherwise"
    text = (ROOT / "config.toml").read_text()
    for table in type(settings).model_fields:
        assert f"[{table}]" in text or f"[[{table}]]" in text
        shown = getattr(settings, table)
        of_rules = Rule if table == "rule" else None  # the file has none, but shows every key of one
        for key in (of_rules or type(shown[0] if isinstance(shown, tuple) else shown)).model_fields:
            assert key in text, f"{table}.{key} is not shown in config.toml"
    assert settings.roles == RoleRules(), "the file shows the defaults"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("port = 11112", "port = 70000", "receiver.port = 70000"),
        ("port = 11112", "prot = 11112", "receiver.prot is not a key"),
        ("port = 11112", "", "receiver.port is missing"),
        ('ae_title = "QUARTERDOSE"', 'ae_title = "QUARTERDOSE_NODE_1"', "should be an AE title: 1 to 16 characters"),
        ('name = "node-1"', 'name = "node 1"', "node.name = 'node 1': should be 1 to 32 letters"),
        ('required = ["t1", "flair", "adc", "low_dose"]', 'required = ["t2"]', "completeness.required.0 = 't2'"),
        ('required = ["t1", "flair", "adc", "low_dose"]', 'required = ["full_dose"]', "cannot be waited for"),
        ('kinds = ["enhanced_mr"]', 'kinds = ["jpeg"]', "derived.kinds.0 = 'jpeg'"),
        ("extra_sop_classes = []", 'extra_sop_classes = ["CT"]', "is not a SOP Class UID"),
        ("[node]", "[node", "is not valid TOML"),
        ('required = ["t1", "flair", "adc", "low_dose"]', 'required = "t1"', "required = 't1': a list belongs here"),
        ("[[peer]]", "[rule]\nname = 'x'\n[[peer]]", "rule: there may be several, so that each begins with [[rule]]"),
        ("dose = {", "dose = 0.02 # {", "quality.limits.dose = 0.02: a table belongs here"),
        ("port = 11113", "prot = 11113", 'destination "pacs".prot is not a key'),
        ("hours = []", 'hours = ["19:00", "06:00"]', "hours = ['19:00', '06:00']: should be two whole hours"),
        ("hours = []", "hours = [19]", 'source "pacs".hours = [19]: should be two whole hours'),
        ("port = 0  ", "port = 11112  ", "receiver.port and health.port are both 11112; each needs its own"),
        ("[[peer]]", '[[destination]]\nkind = "folder"\nname = "pacs"\npath = "x"\n[[peer]]', "the file: two dest"),
    ],
)
def test_a_mistake_is_named_with_its_key_and_what_would_be_right(tmp_path, old, new, said):
    path = tmp_path / "config.toml"
    text = (ROOT / "config.toml").read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(ConfigurationError) as error:
        load_settings(path)
    assert said in str(error.value)


def test_several_mistakes_are_a_line_each_and_what_follows_from_them_is_not_told(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text((ROOT / "config.toml").read_text().replace("port = 11113", "prot = 11113"))
    with pytest.raises(ConfigurationError) as error:
        load_settings(path)
    assert [line.split(" is ")[0].strip() for line in str(error.value).splitlines()[1:]] == [
        'source "pacs".port', 'source "pacs".prot', 'destination "pacs".port', 'destination "pacs".prot'
    ]  # fmt: skip


def test_a_node_may_have_no_peer_no_source_and_no_rule(tmp_path):
    path = tmp_path / "config.toml"
    text = (ROOT / "config.toml").read_text()
    for table, next_line in (("peer", "# Where `quarterdose pull` fetches"), ("source", "[retrieval]\n")):
        before, _, after = text.partition(f"[[{table}]]\n")
        text = before + next_line + after.partition(next_line)[2]
    path.write_text(text)
    settings = load_settings(path)
    assert (settings.peer, settings.source, settings.rule) == ((), (), ())
    assert settings.destination, "what comes between is still there"


def test_a_folder_is_no_configuration(tmp_path):
    with pytest.raises(ConfigurationError, match="Is a directory"):
        load_settings(tmp_path)


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(ConfigurationError, match="--config"):
        load_settings(tmp_path / "config.toml")


def test_backoff_doubles_up_to_its_cap():
    patience = DeliverySettings(first_retry_seconds=5, longest_retry_seconds=60, give_up_hours=1, timeout_seconds=1,
                                commitment_timeout_seconds=1)
    assert [patience.backoff(n) for n in (1, 2, 3, 4, 5, 100)] == [5, 10, 20, 40, 60, 60]


def test_patience_is_over_when_its_hours_were_waited():
    patience = DeliverySettings(first_retry_seconds=900, longest_retry_seconds=1800, give_up_hours=1, timeout_seconds=1,
                                commitment_timeout_seconds=1)
    assert [patience.is_over(n) for n in (1, 2, 3, 4, 5)] == [False, False, False, True, True]
