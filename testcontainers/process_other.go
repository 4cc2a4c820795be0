//go:build !unix

package testcontainers

import (
	"errors"
	"os"
	"syscall"
)

var errNotUnix = errors.New("start private PostgreSQL cluster: works on Unix systems only")

type owner struct{}

func serverOwner() (owner, error)               { return owner{}, errNotUnix }
func (owner) sysProcAttr() *syscall.SysProcAttr { return nil }
func (owner) writeFile(string, string) error    { return errNotUnix }
func privateDir(string, owner) (string, error)  { return "", errNotUnix }
func stopSignal(string) (os.Signal, error)      { return nil, errNotUnix }
