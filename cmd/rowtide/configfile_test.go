package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// TestPrecedenceOfTheProgram runs the real program in a folder with a rowtide.yaml: a flag beats
// the environment, and the environment beats the file.
func TestPrecedenceOfTheProgram(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("rowtide.yaml", "# ours\nrole: of_the_file\nexpires: 5m\njwt-secret: "+testSecret+"\n")
	other := write("other.yaml", "role: of_another_file\njwt-secret: "+testSecret+"\n")
	mounted := write("role", "of_a_secret\n")
	for _, c := range []struct{ name, args, env, want string }{
		{"the file alone", "", "", "of_the_file"},
		{"the environment beats the file", "", "ROWTIDE_ROLE=of_the_environment", "of_the_environment"},
		{"a flag beats both", "--role of_the_flag", "ROWTIDE_ROLE=of_the_environment", "of_the_flag"},
		{"a flag beats the file", "--role=of_the_flag", "", "of_the_flag"},
		{"an empty environment variable is one", "--role of_the_flag", "ROWTIDE_ROLE=", "of_the_flag"},
		{"another file", "--config " + other, "", "of_another_file"},
		{"another file, by the environment", "", "ROWTIDE_CONFIG=" + other, "of_another_file"},
		{"a mounted secret is of the environment", "", "ROWTIDE_ROLE_FILE=" + mounted, "of_a_secret"},
		{"a flag beats a mounted secret", "--role of_the_flag", "ROWTIDE_ROLE_FILE=" + mounted, "of_the_flag"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := newWorld().command(t.Context(), t, append([]string{"token"}, strings.Fields(c.args)...)...)
			cmd.Dir = dir
			cmd.Env = append(cmd.Env, strings.Fields(c.env)...)
			cmd.Stderr = t.Output()
			token, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			part := strings.Split(strings.TrimSpace(string(token)), ".")[1]
			payload, err := base64.RawURLEncoding.DecodeString(part)
			if err != nil {
				t.Fatal(err)
			}
			var claims struct {
				Role     string
				Exp, Iat int64
			}
			if err := json.Unmarshal(payload, &claims); err != nil {
				t.Fatal(err)
			}
			if claims.Role != c.want {
				t.Errorf("the role is %q, want %q", claims.Role, c.want)
			}
			if want := int64(300); claims.Role == "of_the_file" && claims.Exp-claims.Iat != want {
				t.Errorf("the token lives for %d s, want %d, as the file says", claims.Exp-claims.Iat, want)
			}
		})
	}
}

// TestPrecedenceOfEveryFlag gives each flag of each command three values in the three places, and
// takes them away one by one.
func TestPrecedenceOfEveryFlag(t *testing.T) {
	path := filepath.Join(t.TempDir(), "settings.yaml")
	t.Setenv("ROWTIDE_CONFIG", path)
	var c commands
	parser, err := newParser(&c, &configFile{})
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range parser.Model.Leaves(true) {
		for _, flag := range command.Flags {
			t.Run(command.Path()+" --"+flag.Name, func(t *testing.T) {
				t.Setenv(flag.Envs[0], "") // so that it is put back
				_ = os.Unsetenv(flag.Envs[0])
				inFile, inEnv, onLine := threeValues(flag)
				text := inFile
				if flag.IsSlice() {
					text = "[" + inFile + "]"
				}
				if err := os.WriteFile(path, fmt.Appendf(nil, "%s: %s\n", flag.Name, text), 0o600); err != nil {
					t.Fatal(err)
				}
				if got, want := parsed(t, command, flag.Name), valueOf(t, flag, inFile); got != want {
					t.Errorf("with the file it is %s, want %s", got, want)
				}
				t.Setenv(flag.Envs[0], inEnv)
				if got, want := parsed(t, command, flag.Name), valueOf(t, flag, inEnv); got != want {
					t.Errorf("with the environment too it is %s, want %s", got, want)
				}
				if got, want := parsed(t, command, flag.Name, "--"+flag.Name+"="+onLine), valueOf(t, flag, onLine); got != want {
					t.Errorf("with the command line too it is %s, want %s", got, want)
				}
			})
		}
	}
}

// threeValues are values that the flag takes, those of neighbours different.
func threeValues(flag *kong.Flag) (inFile, inEnv, onLine string) {
	if of := enum(flag.Value); of != nil {
		return of[0], of[1], of[0]
	}
	switch flag.Target.Interface().(type) {
	case bool:
		return "true", "false", "true"
	case string, []string:
		return "one", "two", "three"
	case size:
		return "11MB", "12MB", "13MB"
	}
	if strings.Contains(flag.Target.Type().String(), "Duration") {
		return "11s", "12s", "13s"
	}
	if flag.Target.Kind() == reflect.String { // a size, written as text
		return "11MB", "12MB", "13MB"
	}
	return "11", "12", "13"
}

// valueOf is a text as the flag reads it.
func valueOf(t *testing.T, flag *kong.Flag, text string) string {
	t.Helper()
	v := reflect.New(flag.Target.Type()).Elem()
	if err := flag.Parse(kong.ScanFromTokens(kong.Token{Type: kong.FlagValueToken, Value: text}), v); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(v)
}

// parsed is the flag's value after the command line was read. Flags and arguments that are
// missing besides are no matter.
func parsed(t *testing.T, command *kong.Node, name string, args ...string) string {
	t.Helper()
	var c commands
	parser, err := newParser(&c, &configFile{})
	if err != nil {
		t.Fatal(err)
	}
	words := append(strings.Fields(strings.TrimPrefix(command.Path(), "rowtide ")), args...)
	if _, err = parser.Parse(words); err != nil && !strings.Contains(err.Error(), "missing") && !strings.HasPrefix(err.Error(), `expected "<`) {
		t.Fatal(err)
	}
	for _, other := range parser.Model.Leaves(true) {
		for _, flag := range other.Flags {
			if other.Path() == command.Path() && flag.Name == name {
				return fmt.Sprint(flag.Target)
			}
		}
	}
	t.Fatal("the flag is gone")
	return ""
}

func TestCompletionOffersWhatCouldStandNext(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ words, want string }{
		{"ser", "serve"},
		{"migrate ", "up down status"},
		{"serve --log-format ", "text json"},
		{"serve --log-format=json --introspection of", "off"},
		{"serve --introspection = o", "on off"}, // as bash splits it
		{"serve --dev --jwt-s", "--jwt-secret"},
		{"serve --annotations ", ":files"},
		{"completion ", "bash zsh fish"},
		{"serve --listen ", ""},
	} {
		var out, errOut bytes.Buffer
		if err := run(t.Context(), append([]string{"__complete", "--"}, strings.Split(c.words, " ")...), &out, &errOut); err != nil {
			t.Fatal(err)
		}
		var got []string
		for line := range strings.Lines(out.String()) {
			word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
			got = append(got, word)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%q offers %q, want %q", c.words, got, c.want)
		}
	}
}

// TestBashCompletes sources the script in a real shell, and asks as the shell does.
func TestBashCompletes(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if out, err := ran(t, "completion", shell); err != nil || !strings.Contains(out, "__complete") {
			t.Errorf("%s: %v\n%s", shell, err, out)
		}
	}
	cmd := newWorld().command(t.Context(), t)
	cmd.Args = []string{"bash", "-c", `source <("$0" completion bash)
COMP_WORDS=("$0" migrate st); COMP_CWORD=2; _rowtide; echo "${COMPREPLY[@]}"
COMP_WORDS=("$0" serve --introspection = o); COMP_CWORD=4; _rowtide; echo "${COMPREPLY[@]}"`, cmd.Path}
	cmd.Path = "/bin/bash"
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "status\non off\n" {
		t.Errorf("%v: %s", err, out)
	}
}

// TestSetupOverwritesNoSettings: what is there may hold the only copy of a secret.
func TestSetupOverwritesNoSettings(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := refuseToOverwrite(defaultConfig); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(defaultConfig, []byte("retain: 5m\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := run(t.Context(), []string{"setup", "--save", "--roles", "web_user", "--admin-url", "postgres://postgres@127.0.0.1:1/app"}, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "rowtide.yaml is there already") {
		t.Errorf("error %v", err)
	}
}

// TestHelpTeaches: each command that people begin with has an example that can be pasted, and that
// the program takes.
func TestHelpTeaches(t *testing.T) {
	t.Chdir(t.TempDir())
	var c commands
	parser, err := newParser(&c, &configFile{})
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range parser.Model.Leaves(true) {
		path := strings.TrimPrefix(command.Path(), "rowtide ")
		if path == "version" || strings.HasPrefix(path, "bench") {
			continue
		}
		examples := regexp.MustCompile(`(?m)^ +(rowtide [^|>\n]*)`).FindAllStringSubmatch(command.Detail, -1)
		if len(examples) == 0 && path != "completion" {
			t.Errorf("the help of %s has no example:\n%s", path, command.Detail)
		}
		for _, e := range examples {
			for _, word := range strings.Fields(e[1]) {
				name, _, _ := strings.Cut(strings.TrimPrefix(word, "--"), "=")
				if strings.HasPrefix(word, "--") && !strings.Contains(name, "'") && !hasFlag(parser.Model.Node, name) {
					t.Errorf("%s: there is no flag %s", e[1], word)
				}
			}
		}
	}
}

func hasFlag(app *kong.Node, name string) bool {
	return slices.Contains(settingNames(app), name)
}
