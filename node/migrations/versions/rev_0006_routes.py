"""What the rules decided on a study: whether it is processed, with which weights, for whom, how urgently.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "routes",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("study_id", sa.Integer(), sa.ForeignKey("studies.id"), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("because", sa.String(), nullable=False),
        sa.Column("process", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("destinations", sa.JSON(), nullable=True),
        sa.Column("priority", sa.String(), nullable=False),
        sa.Column("decided", sa.DateTime(), nullable=False),
    )
    op.create_index("ix_routes_study_id", "routes", ["study_id"])


def downgrade() -> None:
    op.drop_table("routes")
