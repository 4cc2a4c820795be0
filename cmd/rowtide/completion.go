package main

import (
	"embed"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// Each shell's script asks the program for what could stand next: completions never lag behind
// the flags.
//
//go:embed completion
var completionScripts embed.FS

type completionCmd struct {
	Shell string `arg:"" help:"The shell: bash, zsh or fish." enum:"bash,zsh,fish"`
}

// Help is shown between the summary and the flags.
func (completionCmd) Help() string {
	return `For this session:

  source <(rowtide completion bash)
  source <(rowtide completion zsh)
  rowtide completion fish | source

For good, where the shell looks for completions:

  rowtide completion bash > /etc/bash_completion.d/rowtide
  rowtide completion zsh > "${fpath[1]}/_rowtide"
  rowtide completion fish > ~/.config/fish/completions/rowtide.fish`
}

func (c completionCmd) Run(s streams) error {
	script, err := completionScripts.ReadFile("completion/rowtide." + c.Shell)
	if err != nil {
		return err
	}
	_, err = s.Out.Write(script)
	return err
}

// completeCmd is what the scripts call: it prints a line for each candidate, with a tab before
// its description, or :files where the shell should offer files.
type completeCmd struct {
	Words []string `arg:"" optional:"" passthrough:""`
}

func (c completeCmd) Run(k *kong.Context, s streams) error {
	_, err := io.WriteString(s.Out, strings.Join(candidates(k.Model.Node, c.Words), ""))
	return err
}

// candidates are what the last of the words could become.
func candidates(node *kong.Node, words []string) []string {
	if len(words) > 0 && words[0] == "--" {
		words = words[1:]
	}
	if len(words) == 0 {
		words = []string{""}
	}
	flags := slices.Clone(node.Flags)
	current := strings.TrimPrefix(words[len(words)-1], "=") // bash makes a word of its own of =
	var waiting *kong.Flag                                  // for its value
	for _, w := range words[:len(words)-1] {
		name, _, assigned := strings.Cut(strings.TrimPrefix(w, "--"), "=")
		switch {
		case w == "=":
		case waiting != nil:
			waiting = nil
		case strings.HasPrefix(w, "--"):
			if i := slices.IndexFunc(flags, func(f *kong.Flag) bool { return f.Name == name }); i >= 0 && !assigned && !flags[i].IsBool() {
				waiting = flags[i]
			}
		default:
			if i := slices.IndexFunc(node.Children, func(n *kong.Node) bool { return n.Name == w }); i >= 0 {
				node = node.Children[i]
				flags = append(flags, node.Flags...)
			}
		}
	}
	return offer(node, flags, waiting, current)
}

func offer(node *kong.Node, flags []*kong.Flag, waiting *kong.Flag, current string) []string {
	var out []string
	add := func(word, help string) {
		if strings.HasPrefix(word, current) {
			out = append(out, word+"\t"+help+"\n")
		}
	}
	switch {
	case waiting != nil:
		for _, v := range enum(waiting.Value) {
			add(v, "")
		}
		if strings.HasPrefix(waiting.PlaceHolder, "FILE") {
			return []string{":files\n"}
		}
	case strings.HasPrefix(current, "-"):
		for _, f := range flags {
			if !f.Hidden {
				add("--"+f.Name, f.Help)
			}
		}
	default:
		for _, n := range node.Children {
			if !n.Hidden {
				add(n.Name, n.Help)
			}
		}
		for _, p := range node.Positional {
			for _, v := range enum(p) {
				add(v, fmt.Sprintf("%s for %s", node.Name, v))
			}
		}
	}
	return out
}

func enum(v *kong.Value) []string {
	if v.Enum == "" {
		return nil
	}
	return strings.Split(v.Enum, ",")
}
