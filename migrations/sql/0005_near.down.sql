DROP FUNCTION IF EXISTS rowtide.rows_near(oid, text[], jsonb, bigint);
