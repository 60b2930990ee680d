"""What modalities say they have performed: Modality Performed Procedure Steps.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "procedure_steps",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("sop_instance_uid", sa.String(), nullable=False),
        sa.Column("study_instance_uid", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("sender", sa.String(), nullable=False),
        sa.Column("station", sa.String(), nullable=False),
        sa.Column("performed", sa.JSON(), nullable=False),
        sa.Column("begun", sa.DateTime(), nullable=False),
        sa.Column("updated", sa.DateTime(), nullable=False),
        sa.UniqueConstraint("sop_instance_uid", "study_instance_uid"),
    )
    op.create_index("ix_procedure_steps_study_instance_uid", "procedure_steps", ["study_instance_uid"])


def downgrade() -> None:
    op.drop_table("procedure_steps")
