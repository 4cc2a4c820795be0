DROP TABLE IF EXISTS rowtide.created, rowtide.replica_identity, rowtide.installation;
