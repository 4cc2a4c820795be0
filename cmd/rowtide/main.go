// Command rowtide serves the changes of a Postgres database as GraphQL subscriptions.
//
// This package turns flags and environment into configuration, one file per command. What the
// commands do is in the packages that they call.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"regexp"
	"syscall"

	"github.com/alecthomas/kong"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "rowtide:", err)
		os.Exit(exitCode(err))
	}
}

// The commands, in the order in which a newcomer meets them.
type commands struct {
	Config string `help:"File of settings: the names of flags without dashes, and their values. By default rowtide.yaml, where it is there." placeholder:"FILE"`

	Demo       demoCmd       `cmd:"" help:"Show it all: a private Postgres, a sample schema with row-level security, moving data."`
	Setup      setupCmd      `cmd:"" help:"Prepare a database: service login, own objects, publication, replica identity."`
	Serve      serveCmd      `cmd:"" help:"Run the service."`
	Migrate    migrateCmd    `cmd:"" help:"Make, remove or show Rowtide's own objects in a database."`
	Sync       syncCmd       `cmd:"" help:"Bring publication and replica identity in line with the annotations."`
	Lint       lintCmd       `cmd:"" help:"Check the annotations: what is wrong, where, and what to write."`
	Doctor     doctorCmd     `cmd:"" help:"Examine server, slot, publication, grants, roles and policies: each finding with what mends it."`
	Schema     schemaCmd     `cmd:"" help:"Print the GraphQL schema that a role sees."`
	Explain    explainCmd    `cmd:"" help:"Tell how a subscription is judged and found, and why a row is delivered or not."`
	Subscribe  subscribeCmd  `cmd:"" help:"Follow a subscription in the terminal, one JSON result a line."`
	Token      tokenCmd      `cmd:"" help:"Print a token signed with --jwt-secret."`
	Bench      benchCmd      `cmd:"" help:"Measure against a baseline in the same run."`
	Completion completionCmd `cmd:"" help:"Print the completions for bash, zsh or fish."`
	Version    versionCmd    `cmd:"" help:"Print the version."`

	Complete completeCmd `cmd:"" name:"__complete" hidden:"" help:"What could stand next on the command line."`
}

// streams are where commands write: results to Out, all else to Err.
type streams struct {
	Out, Err io.Writer
}

// BeforeResolve reads the file of settings, once --config is known.
func (commands) BeforeResolve(ctx *kong.Context, f *configFile) error { return f.load(ctx) }

func run(ctx context.Context, args []string, out, errOut io.Writer) error {
	var c commands
	exited := false
	var file configFile
	parser, err := newParser(&c, &file,
		kong.Writers(out, errOut),
		kong.Exit(func(int) { exited = true }),
	)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	k, err := parser.Parse(args)
	if exited { // --help
		return nil
	}
	if err != nil {
		return newUsageError(err, &file)
	}
	k.BindTo(ctx, (*context.Context)(nil))
	k.Bind(streams{Out: out, Err: errOut})
	err = k.Run()
	if errors.Is(err, context.Canceled) { // commands that last until they are told to stop give no error then
		return errors.New("interrupted before all was done: run it again")
	}
	return err
}

// newParser makes the parser of the command line: flag beats environment beats file.
func newParser(c *commands, file *configFile, more ...kong.Option) (*kong.Kong, error) {
	return kong.New(c, append([]kong.Option{
		kong.Name("rowtide"),
		kong.Description("Postgres changes as GraphQL subscriptions: what a role can SELECT is what it can subscribe to."),
		kong.DefaultEnvars("ROWTIDE"),
		kong.Resolvers(file),
		kong.Bind(file),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
	}, more...)...)
}

// A usageError is a mistake on the command line.
type usageError struct {
	line string
	err  error
}

func (e *usageError) Error() string { return e.line }
func (e *usageError) Unwrap() error { return e.err }

// newUsageError makes one line of what kong says, with the command that shows the help. It hides
// passwords in URLs: what stands on the command line may end in a log.
func newUsageError(err error, file *configFile) error {
	if inFile := (*fileError)(nil); errors.As(err, &inFile) {
		return &usageError{inFile.line, err}
	}
	help := "rowtide"
	var parse *kong.ParseError
	if errors.As(err, &parse) {
		for _, p := range parse.Context.Path {
			if p.Command != nil {
				help += " " + p.Command.Name
			}
		}
	}
	line := err.Error()
	for _, r := range []struct{ pattern, plain string }{
		{`://[^@/\s"]*@`, "://…@"},
		{`^(--\S+): expected .* value but got "EOL".*`, "$1 needs a value"},
		{`^(--\S+): expected duration but got ("[^"]*"): time: [^(]*?( \(from .*)?$`, "$1: $2 is no duration, write it like 90s or 5m$3"},
		{`^(--\S+): expected a valid .* but got (".*")`, "$1: $2 is no number"},
		{`^expected "(<.*>)"$`, "$1 is missing"},
		{`\(from envar (\w+)=.*\)`, "(from $1)"},
	} {
		line = regexp.MustCompile(r.pattern).ReplaceAllString(line, r.plain)
	}
	return &usageError{line + file.from(line) + " (run " + help + " --help)", err}
}

func exitCode(err error) int {
	var u *usageError
	if errors.As(err, &u) {
		return 2
	}
	return 1
}

// logFlags are the flags of commands that log.
type logFlags struct {
	LogFormat string `help:"Format of the log on standard error." enum:"text,json" default:"text"`
	LogLevel  string `help:"Least severity that is logged." enum:"debug,info,warn,error" default:"info"`
}

func (f logFlags) logger(w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.LogLevel)); err != nil {
		level = slog.LevelInfo
	}
	o := &slog.HandlerOptions{Level: level}
	if f.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
