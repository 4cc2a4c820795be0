package schema

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// An enumType is the API's enum of a PostgreSQL enum.
type enumType struct {
	def  *Type
	name string
	// values are the GraphQL names, in the order of def.Labels.
	values []string
	// order gives the place of a label, byValue the label of a GraphQL name.
	order   map[string]int64
	byValue map[string]string
	// json gives the JSON of a label.
	json map[string]string
}

func newEnumType(def *Type, name string) *enumType {
	e := &enumType{
		def: def, name: name, values: enumValues(def.Labels),
		order: map[string]int64{}, byValue: map[string]string{}, json: map[string]string{},
	}
	for i, label := range def.Labels {
		e.order[label] = int64(i)
		e.byValue[e.values[i]] = label
		e.json[label] = `"` + e.values[i] + `"`
	}
	return e
}

// enumValues gives each label a GraphQL name: the label where that is one, else with underscores
// for what GraphQL does not allow, and with a few digits of its hash where that name is taken.
func enumValues(labels []string) []string {
	count := map[string]int{}
	names := make([]string, len(labels))
	for i, l := range labels {
		names[i] = enumValue(l)
		count[names[i]]++
	}
	for i, l := range labels {
		if names[i] != l && count[names[i]] > 1 {
			sum := sha256.Sum256([]byte(l))
			names[i] = strings.TrimRight(names[i], "_") + "_" + hex.EncodeToString(sum[:4])
		}
	}
	return names
}

func enumValue(label string) string {
	if legalName(label) && label != "true" && label != "false" && label != "null" {
		return label
	}
	out := []byte{}
	for _, r := range label {
		c := byte('_')
		if r < 0x80 && legalName("_"+string(r)) {
			c = byte(r)
		}
		out = append(out, c)
	}
	for len(out) > 1 && out[0] == '_' && out[1] == '_' {
		out = out[1:]
	}
	if !legalName(string(out)) || label == "true" || label == "false" || label == "null" {
		out = append([]byte{'V', '_'}, out...)
	}
	return string(out)
}

// write writes a label. One that the catalog does not know was added since: the catalog must be
// read anew first.
func (e *enumType) write(dst []byte, text string) ([]byte, bool) {
	s, ok := e.json[text]
	return append(dst, s...), ok
}

func (e *enumType) columnType() *columnType {
	return &columnType{
		graphql: e.name, enum: e, write: e.write,
		compare: e.comparison(), filter: inputOf(e.name, withEqual|withOrder),
	}
}
