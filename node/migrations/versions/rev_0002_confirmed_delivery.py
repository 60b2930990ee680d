"""The ledger learns what a destination confirmed.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("deliveries") as table:
        table.add_column(sa.Column("asked", sa.DateTime(), nullable=True))
        table.add_column(sa.Column("transaction_uid", sa.String(), nullable=True))
        table.add_column(sa.Column("settled", sa.DateTime(), nullable=True))
        table.drop_index("deliveries_open")
        table.create_index("deliveries_open", ["destination", "settled"])
        table.create_index("ix_deliveries_transaction_uid", ["transaction_uid"])
    # What an earlier version sent was delivered by the rules of its time.
    op.execute("UPDATE deliveries SET settled = sent WHERE state = 'SENT'")


def downgrade() -> None:
    op.execute("UPDATE deliveries SET state = 'SENT' WHERE state IN ('CONFIRMED', 'COMMITTED')")
    with op.batch_alter_table("deliveries") as table:
        table.drop_index("ix_deliveries_transaction_uid")
        table.drop_index("deliveries_open")
        table.create_index("deliveries_open", ["destination", "state"])
        table.drop_column("settled")
        table.drop_column("transaction_uid")
        table.drop_column("asked")
