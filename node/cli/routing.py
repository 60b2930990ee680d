"""`quarterdose rules`: the rules of this site, and a dry run of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy.orm import Session

from node import actions
from node.cli.options import DEFAULT, AsJson, Config, print_json
from node.collect import judge as judge_study
from node.collect import study_facts
from node.database import existing_database
from node.errors import CommandError
from node.header.instance import HeaderError, InstanceHeader, scan
from node.performed import performed
from node.report import plain
from node.roles.identify import identify
from node.roles.series_facts import SeriesFacts
from node.routing.decide import WITHOUT_RULES, Judgement, Route, StudyTraits, decide, judge
from node.routing.record import last_decision, traits_of
from node.routing.rules import Rule
from node.settings import Settings, load_settings

app = typer.Typer(no_args_is_help=True, help="Which studies are processed, with what, for whom and how urgently.")
_CLOCK = "%H:%M"


@dataclass(frozen=True)
class _Trial:
    """What a dry run found: every rule held against the study, the route by the first that fits, and what the node
    has written down of the study, if it knows it."""

    traits: StudyTraits
    judgements: tuple[Judgement, ...]
    route: Route
    recorded: Route | None = None

    @classmethod
    def of(cls, rules: tuple[Rule, ...], traits: StudyTraits, recorded: Route | None = None) -> _Trial:
        return cls(traits, tuple(judge(rule, traits) for rule in rules), decide(rules, traits), recorded)


@app.command("list")
def list_rules(config: Config = DEFAULT, as_json: AsJson = False) -> None:
    """The rules in their order: what must hold, and what follows."""
    rules = load_settings(config).rule
    if as_json:
        print_json([rule.model_dump(mode="json", exclude_none=True) for rule in rules])
        return
    if not rules:
        Console().print(escape(f"{WITHOUT_RULES.because}: every study is {WITHOUT_RULES.follows}"))
        return
    table = Table("", "rule", "when all of this holds", "the study is")
    for number, rule in enumerate(rules, 1):
        table.add_row(str(number), escape(rule.name), escape(_conditions(rule)), escape(_follows(rule)))
    Console().print(table)


@app.command()
def test(
    study: Annotated[
        list[str],
        typer.Argument(help="DICOM files of one study, a folder of them, or the name of a study that the node holds."),
    ],
    ae_title: Annotated[str, typer.Option(help="For files: the AE title that they would be sent by.")] = "",
    at: Annotated[datetime | None, typer.Option(formats=[_CLOCK], help="The time of day, if not now.")] = None,
    config: Config = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Try the rules on a study: which fit, what keeps the others from it, which decides, what would follow.

    Nothing is sent, processed or written down. The roles of files are told as the node would tell them.
    """
    settings = load_settings(config)
    moment = datetime.now().astimezone()
    if at is not None:
        moment = moment.replace(hour=at.hour, minute=at.minute)
    paths = [Path(name) for name in study]
    if all(path.exists() for path in paths):
        trial = _of_files(settings, paths, ae_title, moment)
    elif len(study) == 1 and ae_title:
        raise typer.BadParameter(f"--ae-title is for files: who sent {study[0]}, the node knows")
    elif len(study) == 1:
        trial = _of_study(settings, study[0], moment)
    else:
        raise CommandError(f"{next(path for path in paths if not path.exists())} does not exist")
    if as_json:
        print_json(_as_data(trial))
    else:
        _print_trial(trial)


def _of_files(settings: Settings, paths: list[Path], ae_title: str, moment: datetime) -> _Trial:
    headers: dict[str, list[InstanceHeader]] = {}
    for header in _headers(paths):
        headers.setdefault(header.series_instance_uid, []).append(header)
    facts = [SeriesFacts.of(of_series, ae_title) for of_series in headers.values()]
    studies = {header.study_instance_uid for of_series in headers.values() for header in of_series}
    if len(studies) != 1:
        found = f"{len(studies)} studies: name the files of one" if studies else "no DICOM file"
        raise CommandError(f"{', '.join(map(str, paths[:3]))}: {found}")
    roles = {uid: decision.role for uid, decision in identify(facts, settings.roles).items()}
    return _Trial.of(settings.rule, StudyTraits.of(facts, roles, moment))


def _headers(paths: Iterable[Path]) -> Iterator[InstanceHeader]:
    """Of every file; what is not DICOM is passed over in a folder, and refused where it was named."""
    for path in paths:
        inside = path.is_dir()
        for file in sorted(one for one in path.rglob("*") if one.is_file()) if inside else [path]:
            try:
                yield scan(file)
            except HeaderError as error:
                if not inside:
                    raise CommandError(f"{file}: {error}") from error


def _of_study(settings: Settings, name: str, moment: datetime) -> _Trial:
    engine = existing_database(settings)
    # Judged as the collector would, which may not have come to it yet; nothing of that is written.
    with Session(engine) as session, session.no_autoflush:
        try:
            study = actions.find(session, name)
        except actions.UnknownStudyError as error:
            raise actions.UnknownStudyError(f"there is no file or folder {name}, and {error}") from error
        try:
            judge_study(session, study, settings, performed(session, study, settings))
        except HeaderError as error:
            raise CommandError(f"study {study.key} cannot be judged: {error}") from error
        return _Trial.of(settings.rule, traits_of(study, study_facts(study), moment), last_decision(session, study))


def _conditions(rule: Rule) -> str:
    """In the words of config.toml."""
    return "\n".join(f"{key} = {_word(value)}" for key, value in rule.conditions.items()) or "always"


def _word(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(_word(one) for one in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _follows(rule: Rule) -> str:
    if not rule.process:
        return f"not processed: {rule.reason}"
    places = "every destination" if rule.destinations is None else ", ".join(rule.destinations)
    weights = f"\nwith the weights in {rule.model}" if rule.model else ""
    return f"processed{weights}\nfor {places}\npriority {rule.priority}"


def _as_data(trial: _Trial) -> dict[str, Any]:
    return {
        "rules": [
            {
                "rule": one.rule.name, "fits": one.fits,
                "conditions": [
                    {"condition": finding.condition, "holds": finding.holds, "because": plain(finding.because)}
                    for finding in one.findings
                ],
            }
            for one in trial.judgements
        ],
        "decides": trial.route.rule,
        "because": plain(trial.route.because),
        "process": trial.route.process,
        "follows": trial.route.follows,
        "priority": trial.route.priority,
        "destinations": trial.route.destinations,
        "model": trial.route.model,
        "recorded": None if trial.recorded is None else trial.recorded.rule,
    }  # fmt: skip


def _print_trial(trial: _Trial) -> None:
    console = Console()
    table = Table("", "rule", "fits", "because")
    for number, one in enumerate(trial.judgements, 1):
        decides = one.rule.name == trial.route.rule
        mark = "[bold green]decides[/]" if decides else "would too" if one.fits else "[yellow]no[/]"
        told = "\n".join(_finding(finding.because, finding.holds) for finding in one.findings) or "it has no condition"
        table.add_row(str(number), escape(one.rule.name), mark, told)
    if trial.judgements:
        console.print(table)
    deciding = f'the rule "{trial.route.rule}" decides' if trial.route.rule else trial.route.because
    console.print(f"{escape(deciding)}: {escape(trial.route.follows)}", soft_wrap=True)
    if trial.route.rule:
        console.print(f"because {escape(plain(trial.route.because))}", soft_wrap=True, style="dim")
    if trial.recorded is not None:
        was = f'the rule "{trial.recorded.rule}"' if trial.recorded.rule else "no rule"
        console.print(f"as written down: {escape(was)}: {escape(trial.recorded.follows)}", soft_wrap=True)


def _finding(because: str, holds: bool) -> str:
    return f"[{'green' if holds else 'red'}]{'✓' if holds else '✗'}[/] {escape(plain(because))}"
