"""Alembic's entry: runs the migrations on the connection that node.database hands over."""

from alembic import context

from node.tables import Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    transactional_ddl=True,  # SQLite can; node.database has begun the transaction
    render_as_batch=True,  # SQLite alters a table by copying it
    include_name=lambda name, kind, _parents: kind != "table" or name in Table.metadata.tables,
)
with context.begin_transaction():
    context.run_migrations()
