package main

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// repository is a file of it.
func repository(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// accepts tells whether the program takes a command line and environment variables.
func accepts(t *testing.T, where string, args, env []string) {
	t.Helper()
	var c commands
	parser, err := newParser(&c, &configFile{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(args); err != nil {
		t.Errorf("%s: rowtide %s: %v", where, strings.Join(args, " "), err)
	}
	known := []string{}
	for _, command := range parser.Model.Leaves(true) {
		for _, flag := range command.Flags {
			known = append(known, flag.Envs...)
		}
	}
	for _, name := range env {
		if strings.HasPrefix(name, "ROWTIDE_") && !slices.Contains(known, strings.TrimSuffix(name, "_FILE")) {
			t.Errorf("%s: there is no variable %s", where, name)
		}
	}
}

func TestTheComposeFileSpeaksOfWhatThereIs(t *testing.T) {
	var file struct {
		Services map[string]struct {
			Image, Build any
			Command      []string
			Environment  map[string]string
			Volumes      []string
			Profiles     []string
		}
	}
	if err := yaml.Unmarshal([]byte(repository(t, "docker-compose.yml")), &file); err != nil {
		t.Fatal(err)
	}
	service := file.Services["rowtide"]
	var env []string
	for name := range service.Environment {
		env = append(env, name)
	}
	accepts(t, "docker-compose.yml", service.Command, env)
	for _, name := range []string{"prometheus", "grafana"} {
		if !slices.Contains(file.Services[name].Profiles, "monitoring") {
			t.Errorf("%s starts without being asked for", name)
		}
		for _, v := range file.Services[name].Volumes {
			if from, _, ok := strings.Cut(v, ":"); ok && strings.HasPrefix(from, "./") {
				repository(t, from)
			}
		}
	}
	accepts(t, "deploy/Dockerfile", commandOf(t, repository(t, "deploy/Dockerfile")), nil)
}

// commandOf is what an image runs.
func commandOf(t *testing.T, dockerfile string) []string {
	t.Helper()
	var args []string
	m := regexp.MustCompile(`(?m)^CMD (\[.*\])$`).FindStringSubmatch(dockerfile)
	if m == nil {
		t.Fatal("the image runs nothing")
	}
	if err := json.Unmarshal([]byte(m[1]), &args); err != nil {
		t.Fatal(err)
	}
	return args
}

func TestTheManifestsSpeakOfWhatThereIs(t *testing.T) {
	d := yaml.NewDecoder(strings.NewReader(repository(t, "deploy/kubernetes.yaml")))
	kinds := []string{}
	for {
		var object struct {
			APIVersion string `yaml:"apiVersion"`
			Kind       string
			Spec       struct {
				Strategy struct{ Type string }
				Template struct {
					Spec struct {
						Containers []struct {
							Args          []string
							Env           []struct{ Name string }
							LivenessProbe struct {
								HTTPGet struct{ Path string } `yaml:"httpGet"`
							} `yaml:"livenessProbe"`
							ReadinessProbe struct {
								HTTPGet struct{ Path string } `yaml:"httpGet"`
							} `yaml:"readinessProbe"`
						}
					}
				}
			}
		}
		err := d.Decode(&object)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, object.APIVersion+" "+object.Kind)
		for _, c := range object.Spec.Template.Spec.Containers {
			var env []string
			for _, e := range c.Env {
				env = append(env, e.Name)
			}
			accepts(t, "deploy/kubernetes.yaml", c.Args, env)
			if c.LivenessProbe.HTTPGet.Path != "/healthz" || c.ReadinessProbe.HTTPGet.Path != "/readyz" {
				t.Errorf("the probes are %+v and %+v", c.LivenessProbe, c.ReadinessProbe)
			}
			if object.Spec.Strategy.Type != "Recreate" {
				t.Error("two services would want one slot")
			}
		}
	}
	if strings.Join(kinds, ", ") != "apps/v1 Deployment, v1 Service" {
		t.Errorf("the objects are %v", kinds)
	}
}

func TestTheUnitStartsWhatThereIs(t *testing.T) {
	m := regexp.MustCompile(`(?m)^ExecStart=\S+/rowtide (.*)$`).FindStringSubmatch(repository(t, "deploy/rowtide.service"))
	if m == nil {
		t.Fatal("the unit starts nothing")
	}
	args := strings.Fields(m[1])
	at := slices.Index(args, "--config")
	if at < 0 {
		t.Fatal("the unit names no settings")
	}
	args[at+1] = os.DevNull
	accepts(t, "deploy/rowtide.service", args, nil)
}

// What is watched is what docs/admin.md lists.
func TestAlertsAndDashboardNameMetricsThatThereAre(t *testing.T) {
	known := repository(t, "docs/admin.md")
	var rules struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	if err := yaml.Unmarshal([]byte(repository(t, "deploy/alerts.yml")), &rules); err != nil || len(rules.Groups[0].Rules) < 5 {
		t.Fatalf("%v, %d rules", err, len(rules.Groups))
	}
	var dashboard struct {
		Panels []struct {
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(repository(t, "deploy/grafana/rowtide.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	var expressions []string
	for _, r := range rules.Groups[0].Rules {
		expressions = append(expressions, r.Expr)
	}
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			expressions = append(expressions, target.Expr)
		}
	}
	for _, e := range expressions {
		for _, name := range regexp.MustCompile(`rowtide_[a-z_]+`).FindAllString(e, -1) {
			if !regexp.MustCompile(name + `\b`).MatchString(known) {
				t.Errorf("there is no metric %s", name)
			}
		}
	}
	for _, file := range []string{"deploy/prometheus.yml", "deploy/grafana/provisioning.yml"} {
		var content map[string]any
		if err := yaml.Unmarshal([]byte(repository(t, file)), &content); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}
