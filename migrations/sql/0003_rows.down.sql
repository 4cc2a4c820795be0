DROP FUNCTION IF EXISTS rowtide.rows_of(oid, text[]);
