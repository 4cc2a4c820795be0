-- What the service itself keeps here. It may add to both, and take nothing away that still counts.

-- The audit log, where the operator asks for it as a table: who connected, subscribed and was
-- refused, and no row of anybody's. The login may insert, and neither read nor change it.
CREATE TABLE IF NOT EXISTS rowtide.audit (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL,
    event      text        NOT NULL,
    role       text,
    subject    text,
    address    text,
    transport  text,
    table_name text,
    operation  text,
    filter     text[],
    reason     text,
    sqlstate   text,
    count      int,
    detail     text
);

-- Tokens and subjects that the operator revoked. xid tells who looks again and again what is new.
CREATE TABLE IF NOT EXISTS rowtide.revocations (
    jti        text        NOT NULL DEFAULT '',
    subject    text        NOT NULL DEFAULT '',
    at         timestamptz NOT NULL,
    expires_at timestamptz,
    xid        xid8        NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (jti, subject),
    CHECK ((jti = '') <> (subject = ''))
);
CREATE INDEX IF NOT EXISTS revocations_xid ON rowtide.revocations (xid);

-- Adds a revocation, or makes one later and longer that is there; forgets those that have expired.
CREATE OR REPLACE FUNCTION rowtide.revoke(jti text, subject text, at timestamptz, expires_at timestamptz) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
    DELETE FROM rowtide.revocations r WHERE r.expires_at < now();
    INSERT INTO rowtide.revocations AS r (jti, subject, at, expires_at) VALUES ($1, $2, $3, $4)
    ON CONFLICT ON CONSTRAINT revocations_pkey DO UPDATE SET
        at = greatest(r.at, excluded.at),
        expires_at = CASE WHEN r.expires_at IS NOT NULL AND excluded.expires_at IS NOT NULL THEN greatest(r.expires_at, excluded.expires_at) END,
        xid = pg_current_xact_id()
    WHERE excluded.at > r.at OR excluded.expires_at IS DISTINCT FROM r.expires_at;
$function$;

REVOKE ALL ON rowtide.audit, rowtide.revocations FROM PUBLIC;
REVOKE ALL ON FUNCTION rowtide.revoke(text, text, timestamptz, timestamptz) FROM PUBLIC;
