package rls

import (
	"errors"
	"strings"
)

// setting compiles current_setting of a custom parameter that is named by a literal. A parameter
// of the server has values of its own making.
func (c *compiler) setting(n *node) (formula, error) {
	k := n.kids[0]
	if k.kind == nodeCast && k.text == "text" {
		k = k.kids[0]
	}
	if k.kind != nodeString || !customSetting(k.text) {
		return formula{}, errors.New("it reads a setting that is not a custom one")
	}
	name := lowerASCII(k.text)
	c.reads |= readsPrincipal
	f := formula{typ: "text", eval: func(e *evaluation) datum { return e.setting(name) }}
	if len(n.kids) == 2 {
		missing, err := c.condition(n.kids[1])
		if err != nil {
			return f, err
		}
		value := f.eval
		f.eval = func(e *evaluation) datum {
			if missing.eval(e).null { // the function is strict
				return null
			}
			return value(e)
		}
	}
	return f, nil
}

// customSetting tells names that a principal can set to any text: with a dot, as
// valid_custom_variable_name has it, and of no module that comes with PostgreSQL.
func customSetting(name string) bool {
	parts := strings.Split(name, ".")
	if len(parts) < 2 || len(name) > 200 {
		return false
	}
	for _, part := range parts {
		if part == "" || !isNameStart(part[0]) {
			return false
		}
		for i := range len(part) {
			if !isNameStart(part[i]) && !isDigit(part[i]) {
				return false
			}
		}
	}
	switch prefix := lowerASCII(parts[0]); {
	case strings.HasPrefix(prefix, "pg"), strings.HasPrefix(prefix, "pl"), prefix == "auto_explain", prefix == "auth_delay", prefix == "basic_archive",
		prefix == "passwordcheck", prefix == "sepgsql":
		return false
	}
	return true
}
