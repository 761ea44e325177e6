#!/bin/sh
# Runs once, on the first start of an empty volume: a role and a database for each service, nobody else's.
set -eu
make_database() {
    psql -v ON_ERROR_STOP=1 -v name="$1" -v password="$2" --username "$POSTGRES_USER" --dbname postgres <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
}
make_database points "$POINTS_PASSWORD"
make_database tiers "$TIERS_PASSWORD"
make_database rewards "$REWARDS_PASSWORD"
