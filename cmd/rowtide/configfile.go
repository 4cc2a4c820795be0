package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// defaultConfig is read where it is there and no other file is named.
const defaultConfig = "rowtide.yaml"

// A configFile gives flags the values that stand in a file, under the flag's name. A flag on the
// command line beats the environment, and the environment beats the file; ROWTIDE_X_FILE names
// a file that holds the value of ROWTIDE_X, as for secrets that Docker and Kubernetes mount.
type configFile struct {
	path   string
	values map[string]*yaml.Node
	// given are the flags that took their value from a file, and from where in it.
	given map[string]string
}

// A fileError is a mistake in the file: the help of a command does not help with it.
type fileError struct{ line string }

func (e *fileError) Error() string { return e.line }

// load reads the file, and refuses keys that no command has a flag for.
func (f *configFile) load(ctx *kong.Context) error {
	f.values, f.given = map[string]*yaml.Node{}, map[string]string{}
	if command := ctx.Selected(); command != nil && command.Hidden {
		return nil // completions come also where the file is wrong
	}
	f.path = configPath(ctx)
	named := f.path != ""
	if !named {
		f.path = defaultConfig
	}
	text, err := os.ReadFile(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !named:
		return nil
	case err != nil:
		var in *fs.PathError
		errors.As(err, &in)
		return &fileError{fmt.Sprintf("--config %s cannot be read: %s", f.path, in.Err)}
	}
	return f.parse(text, settingNames(ctx.Model.Node))
}

// configPath is what --config or ROWTIDE_CONFIG name, "" for neither.
func configPath(ctx *kong.Context) string {
	for _, flag := range ctx.Model.Flags {
		if path, ok := ctx.FlagValue(flag).(string); ok && flag.Name == "config" {
			return path
		}
	}
	return ""
}

// settingNames are the flags of all commands: one file serves all of them.
func settingNames(app *kong.Node) []string {
	var out []string
	for _, command := range app.Leaves(true) {
		for _, flag := range command.Flags {
			out = append(out, flag.Name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (f *configFile) parse(text []byte, known []string) error {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		said := regexp.MustCompile(`^yaml: (line \d+: )?`).ReplaceAllString(strings.Join(strings.Fields(err.Error()), " "), "")
		return &fileError{fmt.Sprintf("%s is no YAML (%s): write lines like retain: 5m", f.path, said)}
	}
	if len(doc.Content) == 0 { // nothing, or comments alone
		return nil
	}
	top := doc.Content[0]
	if top.Kind != yaml.MappingNode {
		return f.mistake(top, "it holds no settings: write lines like retain: 5m")
	}
	for i := 0; i+1 < len(top.Content); i += 2 {
		key, value := top.Content[i], top.Content[i+1]
		switch {
		case !slices.Contains(known, key.Value):
			return f.mistake(key, fmt.Sprintf("%s is no setting%s", key.Value, nearest(key.Value, known)))
		case f.values[key.Value] != nil:
			return f.mistake(key, key.Value+" stands there twice: keep one")
		}
		f.values[key.Value] = value
	}
	return nil
}

func (f *configFile) mistake(at *yaml.Node, what string) error {
	return &fileError{fmt.Sprintf("%s: %s", f.place(at), what)}
}

func (f *configFile) place(at *yaml.Node) string { return fmt.Sprintf("%s, line %d", f.path, at.Line) }

// nearest is a suggestion, or what to do without one.
func nearest(name string, known []string) string {
	// A short word is soon like another.
	best, distance := "", min(3, (len(name)+1)/3)+1
	for _, k := range known {
		if d := levenshtein.ComputeDistance(strings.ToLower(name), k); d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		return ": settings have the names of flags (run rowtide serve --help)"
	}
	return fmt.Sprintf(": did you mean %s?", best)
}

// Validate is asked for by kong; load has seen to it.
func (f *configFile) Validate(*kong.Application) error { return nil }

// Resolve gives the value of a flag that is not on the command line, nil for none.
func (f *configFile) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if value, err := f.secret(flag); value != nil || err != nil {
		return value, err
	}
	node := f.values[flag.Name]
	if node == nil || fromEnvironment(flag) {
		return nil, nil
	}
	f.given[flag.Name] = f.place(node)
	return f.value(node, flag)
}

func fromEnvironment(flag *kong.Flag) bool {
	return slices.ContainsFunc(flag.Envs, func(name string) bool {
		_, set := os.LookupEnv(name)
		return set
	})
}

// secret is the value that stands in the file which ROWTIDE_X_FILE names.
func (f *configFile) secret(flag *kong.Flag) (any, error) {
	for _, name := range flag.Envs {
		path, set := os.LookupEnv(name + "_FILE")
		switch {
		case !set:
			continue
		case fromEnvironment(flag):
			return nil, &fileError{fmt.Sprintf("both %s and %[1]s_FILE are set: keep one", name)}
		}
		text, err := os.ReadFile(path)
		if err != nil {
			var in *fs.PathError
			errors.As(err, &in)
			return nil, &fileError{fmt.Sprintf("%s_FILE names %s, which cannot be read: %s", name, path, in.Err)}
		}
		f.given[flag.Name] = name + "_FILE"
		return strings.TrimRight(string(text), "\r\n"), nil
	}
	return nil, nil
}

// value is what kong takes for the value: texts are read by it as those of the command line are.
func (f *configFile) value(node *yaml.Node, flag *kong.Flag) (any, error) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	switch {
	case node.Kind == yaml.ScalarNode && node.Tag == "!!null":
		return nil, f.mistake(node, flag.Name+" has no value: write one, or take the line out")
	case node.Kind == yaml.ScalarNode:
		return node.Value, nil
	case node.Kind == yaml.SequenceNode && flag.IsSlice():
		list := []any{}
		for _, item := range node.Content {
			if item.Kind != yaml.ScalarNode {
				return nil, f.mistake(item, "an item of "+flag.Name+" is no plain value")
			}
			var value any = item.Value
			if flag.Target.Type().Elem().Kind() != reflect.String { // kong takes numbers, but no text of one
				if err := item.Decode(&value); err != nil {
					return nil, f.mistake(item, fmt.Sprintf("%s: %s is not of its kind", flag.Name, item.Value))
				}
			}
			list = append(list, value)
		}
		return list, nil
	case flag.IsSlice():
		return nil, f.mistake(node, flag.Name+" takes a list: write it like [one, two]")
	}
	return nil, f.mistake(node, flag.Name+" takes one value")
}

// from tells where the value came from that an error complains about, "" for the command line.
func (f *configFile) from(line string) string {
	if m := regexp.MustCompile(`^--([a-z-]+)`).FindStringSubmatch(line); m != nil && f.given[m[1]] != "" {
		return " (from " + f.given[m[1]] + ")"
	}
	return ""
}
