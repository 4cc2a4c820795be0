package migrations

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// A Host is who runs a server: what a person may do there, and how, differs.
type Host uint8

// The hosts. The zero Host is invalid.
const (
	// Plain is a server of one's own, or a host that is not known.
	Plain Host = iota + 1
	// Supabase, and those that follow, have no superuser for their customers.
	Supabase
	// RDS is Amazon RDS.
	RDS
	// Aurora is Amazon Aurora, whose settings belong to a cluster.
	Aurora
	// CloudSQL is Google Cloud SQL.
	CloudSQL
	// Neon is Neon.
	Neon
	// Azure is Azure Database for PostgreSQL, flexible server.
	Azure
)

// String is the name that people know.
func (h Host) String() string {
	switch h {
	case Plain:
		return "PostgreSQL"
	case Supabase:
		return "Supabase"
	case RDS:
		return "Amazon RDS"
	case Aurora:
		return "Amazon Aurora"
	case CloudSQL:
		return "Google Cloud SQL"
	case Neon:
		return "Neon"
	case Azure:
		return "Azure Database for PostgreSQL"
	}
	return "invalid"
}

// Guide is the page of the documentation about the host, "" for a server of one's own.
func (h Host) Guide() string {
	switch h {
	case Supabase:
		return "docs/hosts/supabase.md"
	case RDS, Aurora:
		return "docs/hosts/rds.md"
	case CloudSQL:
		return "docs/hosts/cloud-sql.md"
	case Neon:
		return "docs/hosts/neon.md"
	case Azure:
		return "docs/hosts/azure.md"
	case Plain:
	}
	return ""
}

// ReadHost finds who runs the server, by what it says of itself: the host's own roles, its own
// settings, and functions that nobody else has.
func ReadHost(ctx context.Context, db Querier) (Host, error) {
	for _, h := range []struct {
		host                    Host
		role, setting, function string
	}{
		{Aurora, "", "", "aurora_version"},
		{RDS, "rds_superuser", "rds.extensions", ""},
		{CloudSQL, "cloudsqlsuperuser", "cloudsql.iam_authentication", ""},
		{Azure, "azure_pg_admin", "azure.extensions", ""},
		{Neon, "neon_superuser", "neon.tenant_id", ""},
		{Supabase, "supabase_admin", "supautils.privileged_role", ""},
	} {
		var is bool
		err := db.QueryRow(ctx, `
SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1)
    OR $2 <> '' AND current_setting(nullif($2, ''), true) IS NOT NULL
    OR EXISTS (SELECT FROM pg_catalog.pg_proc WHERE proname = $3 AND pronamespace = 'pg_catalog'::regnamespace)`,
			h.role, h.setting, h.function).Scan(&is)
		if err != nil {
			return 0, fmt.Errorf("find who runs the server: %w", err)
		}
		if is {
			return h.host, nil
		}
	}
	return Plain, nil
}

// A serverSetting is one that has to be changed, and how hosts call it.
type serverSetting struct {
	name, value string
	// cloud is the value where no units can be given: megabytes. Defaults to value.
	cloud string
	// restart says that it takes one.
	restart bool
}

// settingFix says how a setting is changed: SQL where there is some, else what only the host's
// console or command line can do.
func (h Host) settingFix(s serverSetting) []string {
	name, value := s.name, s.cloud
	if value == "" {
		value = s.value
	}
	switch h {
	case RDS, Aurora:
		if name == "wal_level" {
			name, value = "rds.logical_replication", "1"
		}
		group, reboot := "the instance's parameter group", "then reboot the instance"
		if h == Aurora {
			group, reboot = "the cluster's parameter group", "then reboot the writer"
		}
		fix := []string{fmt.Sprintf("in %s (console, or aws rds modify-db-parameter-group; not the default group) set %s = %s", group, name, value)}
		if h == Aurora {
			fix[0] = strings.Replace(fix[0], "modify-db-parameter-group", "modify-db-cluster-parameter-group", 1)
		}
		if s.restart {
			fix = append(fix, reboot)
		}
		return fix
	case CloudSQL:
		if name == "wal_level" {
			name, value = "cloudsql.logical_decoding", "on"
		}
		return []string{fmt.Sprintf("gcloud sql instances patch INSTANCE --database-flags=%s=%s (name the flags that are set already too: those left out are removed)", name, value)}
	case Azure:
		fix := []string{fmt.Sprintf("az postgres flexible-server parameter set --resource-group GROUP --server-name SERVER --name %s --value %s", name, value)}
		if s.restart {
			fix = append(fix, "then az postgres flexible-server restart --resource-group GROUP --name SERVER")
		}
		return fix
	case Neon:
		if name == "wal_level" {
			return []string{"in Neon's console, under the project's settings, enable logical replication (it restarts the computes and stays on)"}
		}
		return []string{"Neon manages " + name + ": ask its support"}
	case Supabase:
		return []string{fmt.Sprintf("supabase --experimental --project-ref REF postgres-config update --config %s=%s", name, s.value)}
	case Plain:
	}
	fix := []string{fmt.Sprintf("ALTER SYSTEM SET %s = %s", s.name, settingLiteral(s.value))}
	if s.restart {
		return append(fix, "then restart the server")
	}
	return append(fix, "SELECT pg_reload_conf()")
}

// settingLiteral leaves numbers as they are.
func settingLiteral(v string) string {
	if strings.Trim(v, "0123456789") == "" {
		return v
	}
	return literal(v)
}

// replicationRole is the role whose members may replicate where a host does not give the attribute.
const replicationRole = "rds_replication"

// MayReplicate is an SQL expression over pg_roles r: the attribute, or RDS's substitute for it.
const MayReplicate = `(r.rolreplication OR EXISTS (SELECT FROM pg_catalog.pg_auth_members m
  JOIN pg_catalog.pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid AND g.rolname = '` + replicationRole + `'))`

// loginSQL makes the service login in the host's way, without its password.
func (h Host) loginSQL(login, password string, version int) []string {
	create := func(attributes string) string {
		return strings.TrimSpace(fmt.Sprintf("CREATE ROLE %s %s %s", ident(login), attributes, password))
	}
	switch h {
	case RDS, Aurora:
		grant := h.ReplicationSQL(login)
		if version >= 160000 {
			// The login is NOINHERIT, and it is what members inherit that lets them replicate.
			grant += " WITH INHERIT TRUE, SET FALSE"
		}
		return []string{create(withoutReplication), grant}
	case CloudSQL, Azure:
		return []string{create(withoutReplication), h.ReplicationSQL(login)}
	case Plain, Supabase, Neon:
	}
	return []string{create(loginAttributes)}
}

// ReplicationSQL lets a login that is there replicate, in the host's way.
func (h Host) ReplicationSQL(login string) string {
	switch h {
	case RDS, Aurora:
		return fmt.Sprintf("GRANT %s TO %s", replicationRole, ident(login))
	case CloudSQL, Azure:
		return fmt.Sprintf("ALTER USER %s WITH REPLICATION", ident(login))
	case Plain, Supabase, Neon:
	}
	return fmt.Sprintf("ALTER ROLE %s REPLICATION", ident(login))
}

// needsReplication names the administrator where it has to take REPLICATION on before it can give
// it away: Azure's does.
func (s *session) needsReplication(ctx context.Context) (user string, needs bool, err error) {
	if s.server.Host != Azure {
		return "", false, nil
	}
	err = s.conn.QueryRow(ctx, `SELECT r.rolname::text, NOT (r.rolsuper OR r.rolreplication) FROM pg_catalog.pg_roles r WHERE r.rolname = current_user`).Scan(&user, &needs)
	if err != nil {
		return "", false, fmt.Errorf("read role: %w", err)
	}
	return user, needs, nil
}

func takeReplication(user string) string {
	return fmt.Sprintf("ALTER ROLE %s WITH REPLICATION", ident(user))
}

// giveReplication makes the administrator one who can give it.
func (s *session) giveReplication(ctx context.Context) error {
	user, needs, err := s.needsReplication(ctx)
	if err != nil || !needs {
		return err
	}
	return s.do(ctx, "REPLICATION for the administrator "+user, takeReplication(user), remember("replication", user, ""))
}

// pooled says which of a host's addresses is its pooler's, by its name alone: some poolers let
// everything through but replication. It gives what to write instead, "" for a server's own.
func pooled(cfg *pgx.ConnConfig) string {
	host := strings.ToLower(cfg.Host)
	first, rest, _ := strings.Cut(host, ".")
	switch {
	case strings.HasSuffix(host, ".pooler.supabase.com"):
		project := "PROJECT"
		if _, ref, ok := strings.Cut(cfg.User, "."); ok {
			project = ref
		}
		return fmt.Sprintf("db.%s.supabase.co:5432, with user postgres or the service login alone", project)
	case strings.HasSuffix(host, ".supabase.co") && cfg.Port == 6543:
		return host + ":5432"
	case strings.HasSuffix(host, ".neon.tech") && strings.HasSuffix(first, "-pooler"):
		return strings.TrimSuffix(first, "-pooler") + "." + rest
	case strings.HasSuffix(host, ".postgres.database.azure.com") && cfg.Port == 6432:
		return host + ":5432"
	case strings.HasSuffix(host, ".rds.amazonaws.com") && strings.Contains(host, ".proxy-"):
		return "the instance's own endpoint, not the proxy's"
	}
	return ""
}

// checkPooled refuses a pooler that its name gives away.
func checkPooled(flag string, cfg *pgx.ConnConfig) error {
	if instead := pooled(cfg); instead != "" {
		return errors.New(where(&cfg.Config) + ": " + poolerFix(flag) + " (" + instead + ")")
	}
	return nil
}
