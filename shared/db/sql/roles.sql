-- name: grants
-- What the service's role may do, as one statement a table: read and add; and edit or remove only where no append-only
-- trigger refuses that. Whatever it could do before is taken back. A view it may read.
SELECT format('REVOKE ALL ON %1$I FROM %2$I; GRANT %3$s ON %1$I TO %2$I', c.relname, :service::text,
              CASE WHEN c.relname = 'schema_migrations' OR c.relkind NOT IN ('r', 'p') THEN 'SELECT'
                   ELSE 'SELECT, INSERT' || CASE WHEN refused.updates THEN '' ELSE ', UPDATE' END
                                         || CASE WHEN refused.deletes THEN '' ELSE ', DELETE' END END) AS statement
FROM pg_class c
CROSS JOIN LATERAL (
    -- The bits of tgtype: 8 is DELETE, 16 is UPDATE; only triggers without a condition count.
    SELECT coalesce(bool_or(t.tgtype & 16 > 0 AND cardinality(t.tgattr::int2[]) = 0), false) AS updates,
           coalesce(bool_or(t.tgtype & 8 > 0), false) AS deletes
    FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE t.tgrelid = c.oid AND p.proname = 'refuse_change' AND t.tgqual IS NULL) AS refused
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
UNION ALL
SELECT format('GRANT USAGE ON SEQUENCE %I TO %I', c.relname, :service::text)
FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'S';

-- name: owns_something$
-- Whether a role owns any table here, as the service's role did before there was an owner beside it.
SELECT EXISTS (SELECT FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
               WHERE r.rolname = :role AND c.relnamespace = 'public'::regnamespace);

-- name: standing
-- Which roles and databases there are, each database with its owner.
SELECT rolname::text AS name, NULL::text AS owner, false AS is_database FROM pg_roles
UNION ALL
SELECT datname::text, pg_get_userbyid(datdba)::text, true FROM pg_database;

-- name: create_role$
-- The statement that makes a role which may log in.
SELECT format('CREATE ROLE %I LOGIN PASSWORD %L', :role::text, :password::text);
