package annotation

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vektah/gqlparser/v2/ast"
)

var update = flag.Bool("update", false, "write the reference anew")

const reference = "../../docs/annotations.md"

// TestReferenceIsThatOfTheDefinitions: the page is written from what the parser checks by.
func TestReferenceIsThatOfTheDefinitions(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	part := regexp.MustCompile(`(?s)(-update -->\n).*(<!-- end -->)`)
	want := part.ReplaceAllLiteralString(string(page), "-update -->\n"+directives()+"<!-- end -->")
	if *update {
		if err := os.WriteFile(reference, []byte(want), 0o644); err != nil { //nolint:gosec // a page of the documentation
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(page)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// directives writes the generated part.
func directives() string {
	var b strings.Builder
	for _, d := range language().Directives {
		var on []string
		for _, l := range d.Locations {
			on = append(on, targetOf(l).String()+"s")
		}
		fmt.Fprintf(&b, "\n### @%s\n\nOn %s. %s\n", d.Name, strings.Join(on, " and "), d.Description)
		if len(d.Arguments) > 0 {
			b.WriteString("\n| Argument | Type | |\n|---|---|---|\n")
		}
		for _, a := range d.Arguments {
			value := a.Description
			if a.DefaultValue != nil {
				value += " By default `" + a.DefaultValue.String() + "`."
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", a.Name, typeText(a.Type), value)
		}
	}
	return b.String() + "\n"
}

// typeText says a type in words, an enum by its values.
func typeText(t *ast.Type) string {
	s := "`" + t.Name() + "`"
	if e := language().Definitions.ForName(t.Name()); e != nil {
		var values []string
		for _, v := range e.EnumValues {
			values = append(values, "`"+v.Name+"`")
		}
		s = strings.Join(values, ", ")
	}
	if t.Elem != nil {
		s = "list of " + s
	}
	if t.NonNull {
		s += ", required"
	}
	return s
}

func TestReferenceShowsNoMistakes(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(examples) == 0 {
		t.Fatal("there is no example")
	}
	for _, e := range examples {
		f, err := ParseFile("example", e[1])
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range f.statements {
			target := map[string]Target{"table": OnTable, "column": OnColumn, "type": OnType}[s.class]
			if _, mistakes := Parse(target, s.text); len(mistakes) > 0 {
				t.Errorf("%s: %v", s.text, mistakes)
			}
		}
	}
}
