-- The sample application of `rowtide demo`: tasks of two teams.
--
-- A member of a team sees its tasks, but for the private ones of others. Nothing here is
-- particular to Rowtide but the comments at the end.

CREATE ROLE web_user NOLOGIN;

CREATE SCHEMA app;
CREATE FUNCTION app.user_id() RETURNS text LANGUAGE sql STABLE
  AS $$ SELECT nullif(current_setting('request.jwt.claims', true), '')::json ->> 'sub' $$;

CREATE TYPE task_state AS ENUM ('todo', 'doing', 'done');

CREATE TABLE teams (
  id   int PRIMARY KEY,
  name text NOT NULL
);

CREATE TABLE members (
  team_id int  NOT NULL REFERENCES teams,
  user_id text NOT NULL,
  PRIMARY KEY (team_id, user_id)
);

CREATE TABLE tasks (
  id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  team_id    int NOT NULL REFERENCES teams,
  owner      text NOT NULL,
  title      text NOT NULL,
  state      task_state NOT NULL DEFAULT 'todo',
  private    boolean NOT NULL DEFAULT false,
  hours      numeric(6,2),
  audit_note text,
  updated_at timestamptz NOT NULL DEFAULT now()
);

ALTER TABLE teams   ENABLE ROW LEVEL SECURITY;
ALTER TABLE members ENABLE ROW LEVEL SECURITY;
ALTER TABLE tasks   ENABLE ROW LEVEL SECURITY;

CREATE POLICY own_membership ON members FOR SELECT TO web_user
  USING (user_id = app.user_id());
CREATE POLICY own_teams ON teams FOR SELECT TO web_user
  USING (id IN (SELECT team_id FROM members WHERE user_id = app.user_id()));
CREATE POLICY team_tasks ON tasks FOR SELECT TO web_user
  USING (team_id IN (SELECT team_id FROM members WHERE user_id = app.user_id()));
CREATE POLICY private_tasks ON tasks AS RESTRICTIVE FOR SELECT TO web_user
  USING (NOT private OR owner = app.user_id());

GRANT USAGE ON SCHEMA app TO web_user;
GRANT SELECT ON teams, members TO web_user;
GRANT SELECT (id, team_id, owner, title, state, private, hours, updated_at) ON tasks TO web_user;

INSERT INTO teams VALUES (1, 'Harbour'), (2, 'Orchard');
INSERT INTO members VALUES (1, 'ana'), (1, 'ben'), (2, 'ben'), (2, 'cleo');
INSERT INTO tasks (team_id, owner, title, private, hours) VALUES
  (1, 'ana', 'Paint the quay', false, 6),
  (1, 'ben', 'Order new ropes', false, 1.5),
  (1, 'ana', 'Plan a surprise for Ben', true, 2),
  (2, 'cleo', 'Prune the apple trees', false, 12),
  (2, 'ben', 'Mend the ladder', false, 0.75);

COMMENT ON TABLE teams IS '@subscribe
A team.';
COMMENT ON TABLE members IS '@subscribe
Who belongs to which team.';
COMMENT ON TABLE tasks IS '@subscribe
One thing to do.';
COMMENT ON COLUMN tasks.state IS 'How far it is.';
COMMENT ON COLUMN tasks.audit_note IS '@omit';
