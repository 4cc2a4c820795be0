-- As rowtide.rows_of, the rows with one of some values in one of some columns, or all, a number at
-- most: those that a change of membership may uncover or hide. near is NULL for all rows, or
-- [{"column": …, "values": […], "null": whether NULL too}, …].
CREATE OR REPLACE FUNCTION rowtide.rows_near(relation oid, columns text[], near jsonb, most bigint) RETURNS SETOF text[]
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off
AS $function$
DECLARE
    condition text := 'true';
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
        JOIN rowtide.created c ON c.kind = 'publication' AND c.name = p.pubname
        WHERE r.prrelid = relation AND p.pubinsert AND p.pubupdate AND p.pubdelete
    ) THEN
        RAISE EXCEPTION 'relation % is not published by Rowtide', relation USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF near IS NOT NULL THEN
        SELECT coalesce(string_agg(format('%I = ANY (%L::%s[])', a.attname, ARRAY(SELECT jsonb_array_elements_text(n -> 'values')), format_type(a.atttypid, NULL))
                          || CASE WHEN (n -> 'null')::bool THEN format(' OR %I IS NULL', a.attname) ELSE '' END, ' OR '), 'false')
        INTO condition
        FROM jsonb_array_elements(near) AS n JOIN pg_attribute a ON a.attrelid = relation AND a.attname = n ->> 'column' AND NOT a.attisdropped;
    END IF;
    RETURN QUERY EXECUTE (
        SELECT format('SELECT ARRAY[%s]::text[] FROM %s%s WHERE %s LIMIT %s',
                      string_agg(format('CASE WHEN %1$I IS NULL THEN NULL ELSE pg_catalog.concat(%1$I) END', u.c), ', ' ORDER BY u.n),
                      CASE WHEN (SELECT relkind FROM pg_class WHERE oid = relation) = 'p' THEN '' ELSE 'ONLY ' END, relation::regclass, condition, most)
        FROM unnest(columns) WITH ORDINALITY AS u(c, n));
END
$function$;

REVOKE ALL ON FUNCTION rowtide.rows_near(oid, text[], jsonb, bigint) FROM PUBLIC;
