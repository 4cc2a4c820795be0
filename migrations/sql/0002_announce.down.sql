DROP FUNCTION IF EXISTS rowtide.announce(), rowtide.follow_partitions(), rowtide.hmac_sha256(bytea, bytea);
