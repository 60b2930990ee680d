"""What each run works on, and which derived series stands for a study.

Revision ID: 0005
Revises: 0004
"""

import json
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("study_id", sa.Integer(), sa.ForeignKey("studies.id"), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("inputs_digest", sa.String(), nullable=False),
        sa.Column("inputs", sa.JSON(), nullable=False),
        sa.Column("begun", sa.DateTime(), nullable=False),
        sa.UniqueConstraint("study_id", "number"),
    )
    # Not by batch_alter_table: that drops the table, which the rows of deliveries refer to.
    op.execute("ALTER TABLE derived_series ADD COLUMN superseded_by INTEGER REFERENCES derived_series (id)")
    _write_down_latest_runs()
    _mark_superseded()


def _write_down_latest_runs() -> None:
    """A run works on the current instances of every series with a role; node.inputs notices if others came since."""
    connection = op.get_bind()
    moment = datetime.now(UTC).replace(tzinfo=None)
    for study, number, digest in connection.execute(
        sa.text("SELECT id, run, inputs_digest FROM studies WHERE run > 0")
    ).all():
        inputs: dict[str, list[int]] = {}
        for role, instance in connection.execute(
            sa.text(
                "SELECT series.role, instances.id FROM instances JOIN series ON series.id = instances.series_id "
                "WHERE series.study_id = :study AND series.role IS NOT NULL AND instances.current ORDER BY instances.id"
            ),
            {"study": study},
        ):
            inputs.setdefault(role, []).append(instance)
        connection.execute(
            sa.text(
                "INSERT INTO runs (study_id, number, inputs_digest, inputs, begun) "
                "VALUES (:study, :number, :digest, :inputs, :begun)"
            ),
            {"study": study, "number": number, "digest": digest, "inputs": json.dumps(inputs), "begun": moment},
        )


def _mark_superseded() -> None:
    """What was made of earlier inputs stands behind the newest made of the present ones, and is not sent any more."""
    op.execute(
        "UPDATE derived_series SET superseded_by = (SELECT MAX(newer.id) FROM derived_series AS newer "
        "JOIN studies ON studies.id = newer.study_id AND studies.inputs_digest = newer.inputs_digest "
        "WHERE newer.study_id = derived_series.study_id) "
        "WHERE inputs_digest <> (SELECT inputs_digest FROM studies WHERE studies.id = derived_series.study_id)"
    )
    op.execute(
        "UPDATE deliveries SET settled = CURRENT_TIMESTAMP, "
        "state = CASE WHEN state IN ('QUEUED', 'SENDING') THEN 'SUPERSEDED' ELSE state END "
        "WHERE settled IS NULL "
        "AND derived_series_id IN (SELECT id FROM derived_series WHERE superseded_by IS NOT NULL)"
    )


def downgrade() -> None:
    op.execute("UPDATE deliveries SET state = 'QUEUED', settled = NULL WHERE state = 'SUPERSEDED'")
    op.execute("ALTER TABLE derived_series DROP COLUMN superseded_by")
    op.drop_table("runs")
