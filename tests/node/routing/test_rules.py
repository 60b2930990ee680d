"""Rules as configuration: what is wrong is refused at start, with the rule's name, the cause and the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.routing.rules import CONDITIONS, FOLLOWS, Rule
from node.settings import ConfigurationError, Settings, load_settings
from tests.conftest import ROOT, ConfigMaker

REST = '[[rule]]\nname = "rest"\n'


def load(config: Path, rules: str) -> Settings:
    config.write_text(f"{config.read_text()}\n{rules}")
    return load_settings(config)


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (f'[[rule]]\nname = "night"\nmodalty = "MR"\n{REST}', 'rule "night".modalty is not a key of ours'),
        (f'[[rule]]\nname = "night"\nmodality = "("\n{REST}', """rule "night".modality = '(': '(' is not a regular"""),
        (f'[[rule]]\nname = "night"\ndose = [0.3, 0.1]\n{REST}', 'rule "night".dose = [0.3, 0.1]: a range needs'),
        (f'[[rule]]\nname = "night"\nage = [18, 3]\n{REST}', "a range needs its smaller number first"),
        (f'[[rule]]\nname = "night"\nage = [0, 3.5]\n{REST}', 'rule "night".age.1 = 3.5'),
        (f'[[rule]]\nname = "night"\nroles = ["t2"]\n{REST}', """rule "night".roles.0 = 't2'"""),
        (f'[[rule]]\nname = "night"\ntime_of_day = ["19:00", "7:00"]\n{REST}', """.time_of_day.1 = '7:00'"""),
        (f'[[rule]]\nname = "night"\ntime_of_day = ["19:00", "24:00"]\n{REST}', """.time_of_day.1 = '24:00'"""),
        (f'[[rule]]\nname = "night"\ntime_of_day = [19, 7]\n{REST}', ".time_of_day.0 = 19"),
        (f'[[rule]]\nname = "night"\ntime_of_day = ["19:00", "19:00"]\n{REST}', "is no time at all"),
        (f'[[rule]]\nname = "night"\npriority = "urgent"\n{REST}', """rule "night".priority = 'urgent': Input"""),
        (f'[[rule]]\nname = "night"\nroles = []\n{REST}', 'rule "night".roles'),
        ('[[rule]]\nname = "rest"\nprocess = false', 'rule "rest": process = false needs a reason'),
        ('[[rule]]\nname = "rest"\nprocess = false\nreason = " "', 'rule "rest": process = false needs a reason'),
        ('[[rule]]\nname = "rest"\nreason = "why"', 'rule "rest": reason says why a study is not processed'),
        ('[[rule]]\nname = "rest"\nprocess = false\nreason = "no"\npriority = "stat"', "leaves priority without"),
        ('[[rule]]\nname = "rest"\ndestinations = ["cloud"]', 'rule "rest": no [[destination]] is called cloud'),
        ('[[rule]]\nname = "rest"\ndestinations = []', 'rule "rest".destinations'),
        (f"{REST}{REST}", 'two rules are called "rest"'),
        (f'{REST}[[rule]]\nname = "other"', 'rule "rest" has no condition, so no rule after it'),
        ('[[rule]]\nname = "night"\nmodality = "MR"', 'the last rule, "night", has conditions'),
        ("[[rule]]\nprocess = true", "rule.0.name is missing"),
        ('[[rule]]\nname = ""', "rule \"\".name = '': should be 1 to 64 characters"),
        (f'[[rule]]\nname = "x"\ntime_of_day = ["7:00", "19:00"]\n{REST}', "0 = '7:00': should be a time of day"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(make_config: ConfigMaker, rules: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        load(make_config(), rules)
    assert said in str(error.value)


def test_a_folder_is_taken_from_where_the_file_lies(make_config: ConfigMaker, tmp_path: Path) -> None:
    rules = load(make_config(), f'[[rule]]\nname = "ours"\nmodality = "MR"\nmodel = "weights/x"\n{REST}').rule
    assert [rule.model for rule in rules] == [str(tmp_path / "weights/x"), ""]


def test_conditions_are_those_that_are_given() -> None:
    rule = Rule(name="x", modality="MR", age=(0, 17))
    assert rule.conditions == {"modality": "MR", "age": (0, 17)}
    assert Rule(name="x").conditions == {}
    assert {"ae_title", "roles", "dose", "time_of_day"} < set(CONDITIONS)
    assert not {"name", "process", "reason", "priority"} & set(CONDITIONS)


def test_the_example_in_the_documentation_is_what_the_node_reads(make_config: ConfigMaker) -> None:
    example = (ROOT / "docs/routing.md").read_text().split("```toml\n")[1].split("```")[0]
    place = '[[destination]]\nkind = "folder"\nname = "duty-workstation"\npath = "x"\n'
    rules = load(make_config(), place + example).rule
    assert [rule.name for rule in rules][-1] == "everything else"
    assert [rule.process for rule in rules] == [False, True, True, True]
    shown = {key for rule in rules for key in rule.model_fields_set}
    table = (ROOT / "docs/routing.md").read_text()
    assert not [key for key in (*CONDITIONS, *FOLLOWS) if f"`{key}" not in table and key not in shown]
