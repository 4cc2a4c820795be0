//go:build unix

package testcontainers

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// An owner is the user whom the server runs as: PostgreSQL refuses to run as root.
type owner struct {
	other    bool // another user than ours
	uid, gid uint32
}

// serverOwner is the present user, or, for root, the first of postgres, nobody and uid 65534.
func serverOwner() (owner, error) {
	if os.Geteuid() != 0 {
		return owner{}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return owner{}, fmt.Errorf("read uid of user %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return owner{}, fmt.Errorf("read gid of user %s: %w", name, err)
		}
		return owner{other: true, uid: uint32(uid), gid: uint32(gid)}, nil
	}
	return owner{other: true, uid: 65534, gid: 65534}, nil
}

// sysProcAttr makes a process group of its own, so that Ctrl-C in a terminal reaches our
// program, which then stops the server in order, and not the server beside it.
func (o owner) sysProcAttr() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true}
	if o.other {
		a.Credential = &syscall.Credential{Uid: o.uid, Gid: o.gid}
	}
	return a
}

// own hands a file or folder to the owner.
func (o owner) own(path string) error {
	if !o.other {
		return nil
	}
	return os.Chown(path, int(o.uid), int(o.gid))
}

func (o owner) writeFile(path, content string) error {
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return err
	}
	return o.own(path)
}

// privateDir makes the cluster's folder, which the owner alone may enter.
func privateDir(parent string, o owner) (string, error) {
	if parent == "" {
		parent = os.TempDir()
	}
	parent, err := filepath.Abs(parent)
	if err != nil {
		return "", fmt.Errorf("make cluster folder: %w", err)
	}
	if err := o.reaches(parent); err != nil {
		return "", fmt.Errorf("make cluster folder: %w", err)
	}
	dir, err := os.MkdirTemp(parent, "rowtide-pg-")
	if err != nil {
		return "", fmt.Errorf("make cluster folder: %w", err)
	}
	if err := o.own(dir); err != nil {
		_ = os.Remove(dir)
		return "", fmt.Errorf("make cluster folder: %w", err)
	}
	return dir, nil
}

// reaches checks that the owner may enter dir and all above it: initdb's own message for that
// does not say which folder is closed.
func (o owner) reaches(dir string) error {
	if !o.other {
		return nil
	}
	for d := dir; ; d = filepath.Dir(d) {
		info, err := os.Stat(d)
		if err != nil {
			return err
		}
		if !o.mayEnter(info) {
			return fmt.Errorf("uid %d, whom the server runs as because root may not run it, cannot enter %s: choose another folder with TMPDIR", o.uid, d)
		}
		if d == filepath.Dir(d) {
			return nil
		}
	}
}

func (o owner) mayEnter(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return true
	}
	switch {
	case st.Uid == o.uid:
		return info.Mode()&0o100 != 0
	case st.Gid == o.gid:
		return info.Mode()&0o010 != 0
	}
	return info.Mode()&0o001 != 0
}

// stopSignal is what pg_ctl sends for a mode.
func stopSignal(mode string) (os.Signal, error) {
	switch mode {
	case "smart":
		return syscall.SIGTERM, nil
	case "fast":
		return syscall.SIGINT, nil
	case "immediate":
		return syscall.SIGQUIT, nil
	case "kill":
		return syscall.SIGKILL, nil
	}
	return nil, fmt.Errorf("stop server: unknown mode %q: use smart, fast, immediate or kill", mode)
}
