package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
)

// A profile writes profiles of what is measured into a folder; into none where dir is "".
type profile struct {
	dir  string
	file *os.File
}

// newProfile makes the folder.
func newProfile(dir string) (*profile, error) {
	if dir != "" {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("write profile: %w", err)
		}
	}
	return &profile{dir: dir}, nil
}

// blockRate has blocking of some 10 microseconds and more sampled.
const blockRate = 10_000

// start begins a CPU profile of that name, and counts blocking from then on; "" is none.
func (p *profile) start(name string) (err error) {
	if p.dir == "" || name == "" {
		return nil
	}
	if p.file, err = os.Create(filepath.Join(p.dir, name+".cpu.pprof")); err != nil {
		return fmt.Errorf("write profile: %w", err)
	}
	runtime.SetBlockProfileRate(blockRate)
	return pprof.StartCPUProfile(p.file)
}

// stop writes what was profiled: CPU, and all allocations and blocking so far.
func (p *profile) stop(name string) error {
	if p.file == nil {
		return nil
	}
	pprof.StopCPUProfile()
	runtime.SetBlockProfileRate(0)
	err := p.file.Close()
	p.file = nil
	for _, kind := range []string{"allocs", "block"} {
		if err == nil {
			err = p.write(name, kind)
		}
	}
	return err
}

func (p *profile) write(name, kind string) error {
	f, err := os.Create(filepath.Join(p.dir, name+"."+kind+".pprof"))
	if err != nil {
		return fmt.Errorf("write profile: %w", err)
	}
	defer f.Close()
	return pprof.Lookup(kind).WriteTo(f, 0)
}

// heap writes what is held now.
func (p *profile) heap(name string) error {
	if p.dir == "" {
		return nil
	}
	return p.write(name, "heap")
}
