-- HMAC-SHA256 (RFC 2104) for keys of up to 64 bytes, from what every server has.
CREATE OR REPLACE FUNCTION rowtide.hmac_sha256(key bytea, message bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT sha256(o_pad || sha256(i_pad || message))
    FROM (
        SELECT string_agg(decode(lpad(to_hex(b # 54), 2, '0'), 'hex'), ''::bytea ORDER BY n) AS i_pad,
               string_agg(decode(lpad(to_hex(b # 92), 2, '0'), 'hex'), ''::bytea ORDER BY n) AS o_pad
        FROM (SELECT n, CASE WHEN n < octet_length(key) THEN get_byte(key, n) ELSE 0 END
              FROM generate_series(0, 63) n) k(n, b)
    ) pads
$function$;

-- A partition made or attached to a published table gets the table's identity, in the same
-- transaction: until it has, its old images hold NULL where values are. Its lock is already held.
CREATE OR REPLACE FUNCTION rowtide.follow_partitions() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms'
AS $function$
DECLARE
    leaf record;
BEGIN
    FOR leaf IN
        WITH RECURSIVE tree(oid) AS (
            SELECT coalesce(pg_partition_root(c.objid), c.objid) FROM pg_event_trigger_ddl_commands() c
            WHERE c.classid = 'pg_class'::regclass AND c.object_type = 'table'
            UNION
            SELECT i.inhrelid FROM tree JOIN pg_inherits i ON i.inhparent = tree.oid
        )
        SELECT c.oid, n.nspname, c.relname, c.relreplident FROM tree
        JOIN pg_class c ON c.oid = tree.oid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relispartition AND c.relreplident <> 'f' AND pg_partition_root(c.oid) IN (
            SELECT r.prrelid FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
            JOIN rowtide.created m ON m.kind = 'publication' AND m.name = p.pubname
            WHERE p.pubupdate)
    LOOP
        INSERT INTO rowtide.replica_identity (relation, schema_name, table_name, previous, previous_index)
        SELECT leaf.oid, leaf.nspname, leaf.relname, leaf.relreplident,
               (SELECT x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
                WHERE i.indrelid = leaf.oid AND i.indisreplident)
        ON CONFLICT (relation) DO NOTHING;
        EXECUTE format('ALTER TABLE %I.%I REPLICA IDENTITY FULL', leaf.nspname, leaf.relname);
    END LOOP;
EXCEPTION WHEN others THEN
    RAISE LOG 'rowtide: a new partition keeps its replica identity: %', SQLERRM;
END
$function$;

-- Tells the change stream, in the transaction of the DDL itself, that the catalog changed, and which
-- relations are concerned; nothing of them where it may be others, or things of another kind. Any
-- login can write a logical message, so this one is signed, over the transaction's id so that it
-- cannot be sent again. Whatever goes wrong here, the user's DDL goes on: the service also polls.
CREATE OR REPLACE FUNCTION rowtide.announce() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    body text;
    relations text;
    message_key bytea;
BEGIN
    IF tg_event = 'sql_drop' THEN
        IF NOT EXISTS (SELECT FROM pg_event_trigger_dropped_objects() o WHERE NOT o.is_temporary) THEN
            RETURN;
        END IF;
        -- What goes with a relation is named too, but for things that are part of it.
        SELECT CASE WHEN bool_and(o.classid = 'pg_class'::regclass OR NOT o.original)
               THEN string_agg(DISTINCT o.objid::text, ',') FILTER (WHERE o.classid = 'pg_class'::regclass) END
        INTO relations FROM pg_event_trigger_dropped_objects() o;
    ELSE
        IF EXISTS (SELECT FROM pg_event_trigger_ddl_commands())
           AND NOT EXISTS (SELECT FROM pg_event_trigger_ddl_commands() c WHERE c.schema_name IS DISTINCT FROM 'pg_temp') THEN
            RETURN;
        END IF;
        PERFORM rowtide.follow_partitions();
        -- An index concerns its table, a partition its root.
        SELECT CASE WHEN bool_and(r.oid IS NOT NULL) THEN string_agg(DISTINCT r.oid::text, ',') END
        INTO relations FROM pg_event_trigger_ddl_commands() c CROSS JOIN LATERAL (
            SELECT CASE c.classid WHEN 'pg_class'::regclass THEN c.objid
                                  WHEN 'pg_policy'::regclass THEN (SELECT p.polrelid FROM pg_policy p WHERE p.oid = c.objid) END
            UNION ALL SELECT x.indrelid FROM pg_index x WHERE c.classid = 'pg_class'::regclass AND x.indexrelid = c.objid
            UNION ALL SELECT i.inhparent FROM pg_inherits i WHERE c.classid = 'pg_class'::regclass AND i.inhrelid = c.objid
        ) r(oid);
    END IF;
    SELECT i.message_key INTO STRICT message_key FROM rowtide.installation i;
    body := pg_current_xact_id()::text || ' catalog' || coalesce(' ' || relations, '');
    PERFORM pg_logical_emit_message(true, 'rowtide',
        'v1 ' || encode(rowtide.hmac_sha256(message_key, convert_to(body, 'UTF8')), 'hex') || ' ' || body);
EXCEPTION WHEN others THEN
    RAISE LOG 'rowtide: a change of the catalog is not announced: %', SQLERRM;
END
$function$;

REVOKE ALL ON FUNCTION rowtide.hmac_sha256(bytea, bytea), rowtide.follow_partitions(), rowtide.announce() FROM PUBLIC;
