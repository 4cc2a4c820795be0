DROP FUNCTION IF EXISTS rowtide.revoke(text, text, timestamptz, timestamptz);
DROP TABLE IF EXISTS rowtide.revocations, rowtide.audit;
