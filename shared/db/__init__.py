"""PostgreSQL: pool, named statements, migrations, and the tables every service has."""
