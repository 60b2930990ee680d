"""What people decided about models: promoted ones are used, shadows run beside, retired ones are used no more.

Models are told apart by the digest of their weights (``model.store``). One that is promoted or made a shadow is copied
into the data folder under that digest, so that nobody changes it afterwards. Every decision is an event.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from model.card import CARD, README, ModelCard
from model.store import WEIGHTS, Model, WeightsError, model_folders, roles_of
from node.database import writing
from node.errors import CommandError
from node.files import DataFolder, write_durably
from node.models.standing import Standing
from node.tables import Event, ModelRow, now
from preprocessing.volume import Role


@dataclass(frozen=True)
class KnownModel:
    """One model, who decided what it is, when and why; nobody and no time for a shipped one that nobody touched."""

    digest: str
    name: str
    folder: Path
    roles: tuple[Role, ...]
    standing: Standing
    who: str = ""
    why: str = ""
    since: datetime | None = None

    @property
    def label(self) -> str:
        """Name and the digest's beginning, which tells two of one name apart."""
        return f"{self.name} ({self.digest[:12]})"


def shipped_models() -> list[KnownModel]:
    """Those that came with the product, as if nobody had decided on any. Raises CardError or WeightsError."""
    cards = [(ModelCard.read(folder), folder) for folder in model_folders()]
    return [
        KnownModel(card.weights_sha256, card.name, folder, roles_of(folder), Standing.SHIPPED) for card, folder in cards
    ]


def known_models(session: Session, data: DataFolder) -> list[KnownModel]:
    """Every model, shipped ones first. Raises CardError or WeightsError for one that cannot be read."""
    decided = {row.digest: row for row in session.scalars(select(ModelRow).order_by(ModelRow.id))}
    models = []
    for shipped in shipped_models():
        row = decided.pop(shipped.digest, None)
        models.append(shipped if row is None else _decided(row, shipped.folder))
    return [*models, *(_decided(row, data.model(row.digest)) for row in decided.values())]


def _decided(row: ModelRow, folder: Path) -> KnownModel:
    roles = tuple(Role(role) for role in row.roles)
    return KnownModel(row.digest, row.name, folder, roles, Standing(row.standing), row.who, row.why, row.since)


def in_use(models: Collection[KnownModel]) -> list[KnownModel]:
    """Those whose results are sent: promoted ones, and shipped ones that nobody took out of use."""
    return [model for model in models if model.standing in (Standing.SHIPPED, Standing.PROMOTED)]


def choose(models: Collection[KnownModel], roles: Collection[Role]) -> KnownModel:
    """The one to use for a study that has ``roles``: that takes the most of them and needs no other; promoted ones
    before shipped ones, the latest decision first. Raises WeightsError if none fits."""
    used = in_use(models)
    fitting = [model for model in used if set(model.roles) <= set(roles)]
    if not fitting:
        needs = "; ".join(f"{model.label} needs {', '.join(model.roles)}" for model in used) or "there is none"
        raise WeightsError(f"no model in use can do with {', '.join(sorted(roles)) or 'nothing'}: {needs}")
    return max(fitting, key=lambda one: (len(one.roles), one.standing is Standing.PROMOTED, _moment(one)))


def _moment(model: KnownModel) -> float:
    return model.since.timestamp() if model.since else 0.0


def shadows(models: Collection[KnownModel], roles: Collection[Role]) -> list[KnownModel]:
    """Those to be run beside, for a study that has ``roles``."""
    return [model for model in models if model.standing is Standing.SHADOW and set(model.roles) <= set(roles)]


def find_model(models: Collection[KnownModel], which: str) -> KnownModel:
    """By name or the beginning of the digest. Raises CommandError where none or several answer."""
    found = [model for model in models if which and (model.name == which or model.digest.startswith(which))]
    if len(found) == 1:
        return found[0]
    what = f"{len(found)} models answer to" if found else "no model answers to"
    raise CommandError(f"{what} {which!r}; `quarterdose models list` shows their names and digests")


def decide(engine: Engine, data: DataFolder, which: str, standing: Standing, who: str, why: str) -> KnownModel:
    """Promote, shadow or retire the model ``which``: a known one, or a model folder that is taken in.

    Raises CommandError with what to do, CardError or WeightsError for a folder that is no model.
    """
    if not why.strip():
        raise CommandError("say why, with --because: it is recorded with the decision")
    with Session(engine) as session:
        models = known_models(session, data)
    folder = Path(which) if Path(which).is_dir() else None
    model = find_model(models, which) if folder is None else _model_in(folder, data, models)
    _keep(data, model.digest, folder or model.folder)
    with writing(engine) as session:
        if standing is not Standing.PROMOTED:
            _refuse_to_lose_the_last(known_models(session, data), model)
        row = session.scalar(select(ModelRow).where(ModelRow.digest == model.digest))
        before = row.standing if row is not None else model.standing
        if row is None:
            row = ModelRow(digest=model.digest, name=model.name, roles=[str(role) for role in model.roles])
            session.add(row)
        row.standing, row.who, row.why, row.since = standing, who, why.strip(), now()
        session.add(Event(study_id=None, who=who, what=f"model {model.label}: {before} → {standing}", why=why.strip()))
        session.flush()
        return _decided(row, model.folder)


def _model_in(folder: Path, data: DataFolder, models: Collection[KnownModel]) -> KnownModel:
    """The model of a folder: the known one of its digest, or a new one as it will be kept."""
    model = Model.load(folder, "cpu")  # all of it is read, and its digest held against its card
    new = KnownModel(model.digest, model.card.name, data.model(model.digest), model.roles, Standing.SHADOW)
    return next((known for known in models if known.digest == model.digest), new)


def _keep(data: DataFolder, digest: str, folder: Path) -> None:
    """Copy a model folder below the data folder: shipped ones too, for the next version may come with others."""
    kept = data.model(digest)
    if folder == kept:
        return
    for name in (WEIGHTS, CARD, README):
        if (folder / name).is_file():
            write_durably((folder / name).read_bytes(), kept / name, data.incoming)


def _refuse_to_lose_the_last(models: Collection[KnownModel], model: KnownModel) -> None:
    left = [one for one in models if one.digest != model.digest]
    if model.standing in (Standing.SHIPPED, Standing.PROMOTED):
        try:
            choose(left, tuple(Role))
        except WeightsError:
            raise CommandError(f"{model.label} is the only model in use; promote another one first") from None
