-- All rows of a table that Rowtide publishes, in the columns that policies of other tables read,
-- as the stream prints them. Who may call it follows the stream, which has them as well. Where row
-- security binds the owner of this function too, it raises an error.
CREATE OR REPLACE FUNCTION rowtide.rows_of(relation oid, columns text[]) RETURNS SETOF text[]
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off
AS $function$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
        JOIN rowtide.created c ON c.kind = 'publication' AND c.name = p.pubname
        WHERE r.prrelid = relation AND p.pubinsert AND p.pubupdate AND p.pubdelete
    ) THEN
        RAISE EXCEPTION 'relation % is not published by Rowtide', relation USING ERRCODE = 'insufficient_privilege';
    END IF;
    -- concat prints values as their output functions do; a cast of a boolean does not.
    RETURN QUERY EXECUTE (
        SELECT format('SELECT ARRAY[%s]::text[] FROM ONLY %s',
                      string_agg(format('CASE WHEN %1$I IS NULL THEN NULL ELSE pg_catalog.concat(%1$I) END', u.c), ', ' ORDER BY u.n),
                      relation::regclass)
        FROM unnest(columns) WITH ORDINALITY AS u(c, n));
END
$function$;

REVOKE ALL ON FUNCTION rowtide.rows_of(oid, text[]) FROM PUBLIC;
