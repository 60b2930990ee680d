"""Studies that are fetched because they are priors of another.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("pulls", sa.Column("prior_of", sa.String(), nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("pulls", "prior_of")
