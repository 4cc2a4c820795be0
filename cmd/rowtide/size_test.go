package main

import "testing"

func TestSizesAreReadAsPostgresWritesThem(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]size{"0B": 0, "1kB": 1024, "256MB": 256 << 20, "16GB": 16 << 30, "8 TB": 8 << 40} {
		var s size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%q: %d, %v, want %d", text, s, err, want)
		}
	}
	for _, text := range []string{"", "GB", "16", "-1GB", "16gb", "1.5GB", "16GBB", "9999999999GB", "16G"} {
		var s size
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is %d, want an error", text, s)
		}
	}
}
