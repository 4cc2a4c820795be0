-- Rowtide's own tables. Each file runs as one transaction and can be run again.

-- The one row that makes this database's installation what it is. The secrets are random: each
-- uuid carries 122 bits of the server's strong random numbers.
CREATE TABLE IF NOT EXISTS rowtide.installation (
    single        boolean     PRIMARY KEY DEFAULT true CHECK (single),
    id            uuid        NOT NULL DEFAULT gen_random_uuid(),
    cursor_secret bytea       NOT NULL CHECK (octet_length(cursor_secret) = 32),
    message_key   bytea       NOT NULL CHECK (octet_length(message_key) = 32),
    created_at    timestamptz NOT NULL DEFAULT now()
);

INSERT INTO rowtide.installation (cursor_secret, message_key)
SELECT sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())),
       sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
ON CONFLICT DO NOTHING;

-- What the replica identity of a table was before it was set to full.
CREATE TABLE IF NOT EXISTS rowtide.replica_identity (
    relation       oid         PRIMARY KEY,
    schema_name    text        NOT NULL,
    table_name     text        NOT NULL,
    previous       "char"      NOT NULL,
    previous_index text,
    changed_at     timestamptz NOT NULL DEFAULT now()
);

-- What setup and sync made outside this schema, so that migrate down removes that and nothing else.
CREATE TABLE IF NOT EXISTS rowtide.created (
    kind       text        NOT NULL,
    name       text        NOT NULL,
    detail     text        NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, name, detail)
);

REVOKE ALL ON rowtide.installation, rowtide.replica_identity, rowtide.created FROM PUBLIC;
