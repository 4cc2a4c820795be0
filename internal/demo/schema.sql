-- The sample application of `rowtide demo`: two teams with projects, tasks and comments.
--
-- Who sees what, by three kinds of policy: membership (the rows of one's teams), attribute (a
-- project may be open to everybody, a task private) and owner (private tasks are their owner's).
-- Nothing here is particular to Rowtide but the comments at the end.

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

CREATE TABLE projects (
  id      int PRIMARY KEY,
  team_id int NOT NULL REFERENCES teams,
  name    text NOT NULL,
  open    boolean NOT NULL DEFAULT false
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
  updated_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (id, team_id, private)
);

-- A comment carries what its policy needs; the foreign key keeps that in line with its task, so
-- a task that moves takes its comments along.
CREATE TABLE comments (
  id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  task_id    bigint  NOT NULL,
  team_id    int     NOT NULL,
  private    boolean NOT NULL,
  author     text    NOT NULL,
  body       text    NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  FOREIGN KEY (task_id, team_id, private) REFERENCES tasks (id, team_id, private) ON UPDATE CASCADE ON DELETE CASCADE
);

ALTER TABLE teams    ENABLE ROW LEVEL SECURITY;
ALTER TABLE members  ENABLE ROW LEVEL SECURITY;
ALTER TABLE projects ENABLE ROW LEVEL SECURITY;
ALTER TABLE tasks    ENABLE ROW LEVEL SECURITY;
ALTER TABLE comments ENABLE ROW LEVEL SECURITY;

CREATE POLICY own_membership ON members FOR SELECT TO web_user
  USING (user_id = app.user_id());
CREATE POLICY own_teams ON teams FOR SELECT TO web_user
  USING (id IN (SELECT team_id FROM members WHERE user_id = app.user_id()));
CREATE POLICY team_projects ON projects FOR SELECT TO web_user
  USING (team_id IN (SELECT team_id FROM members WHERE user_id = app.user_id()));
CREATE POLICY open_projects ON projects FOR SELECT TO web_user
  USING (open);
CREATE POLICY team_tasks ON tasks FOR SELECT TO web_user
  USING (team_id IN (SELECT team_id FROM members WHERE user_id = app.user_id()));
CREATE POLICY private_tasks ON tasks AS RESTRICTIVE FOR SELECT TO web_user
  USING (NOT private OR owner = app.user_id());
CREATE POLICY team_comments ON comments FOR SELECT TO web_user
  USING (NOT private AND team_id IN (SELECT team_id FROM members WHERE user_id = app.user_id()));
CREATE POLICY own_comments ON comments FOR SELECT TO web_user
  USING (author = app.user_id());

GRANT USAGE ON SCHEMA app TO web_user;
GRANT SELECT ON teams, members, projects, comments TO web_user;
GRANT SELECT (id, team_id, owner, title, state, private, hours, updated_at) ON tasks TO web_user;

INSERT INTO teams VALUES (1, 'Harbour'), (2, 'Orchard');
INSERT INTO members VALUES (1, 'ana'), (1, 'ben'), (2, 'ben'), (2, 'cleo');
INSERT INTO projects VALUES
  (1, 1, 'A quay for everybody', true),
  (2, 1, 'Winter repairs', false),
  (3, 2, 'Harvest', false);
INSERT INTO tasks (team_id, owner, title, state, private, hours) VALUES
  (1, 'ana', 'Paint the quay', 'doing', false, 6),
  (1, 'ben', 'Order new ropes', 'todo', false, 1.5),
  (1, 'ana', 'Plan a surprise for Ben', 'todo', true, 2),
  (2, 'cleo', 'Prune the apple trees', 'doing', false, 12),
  (2, 'ben', 'Mend the ladder', 'todo', false, 0.75),
  (2, 'cleo', 'Taste the first cider', 'todo', true, 1);
INSERT INTO comments (task_id, team_id, private, author, body) VALUES
  (1, 1, false, 'ben', 'Blue, please.'),
  (1, 1, false, 'ana', 'Blue it is.'),
  (4, 2, false, 'ben', 'I can bring the saw.');

COMMENT ON TABLE teams IS '@subscribe
A team.';
COMMENT ON TABLE members IS '@subscribe
Who belongs to which team.';
COMMENT ON TABLE projects IS '@subscribe
What a team works at.';
COMMENT ON COLUMN projects.open IS 'Whether people of other teams see it.';
COMMENT ON TABLE tasks IS '@subscribe
One thing to do.';
COMMENT ON COLUMN tasks.state IS 'How far it is.';
COMMENT ON COLUMN tasks.private IS 'Whether only its owner sees it.';
COMMENT ON COLUMN tasks.audit_note IS '@omit';
COMMENT ON TABLE comments IS '@subscribe
What somebody says about a task.';
