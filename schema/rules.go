package schema

import (
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/validator"
	"github.com/vektah/gqlparser/v2/validator/core"
	"github.com/vektah/gqlparser/v2/validator/rules"
)

// maxErrors is how many errors one document gets. Finding the next is work too: suggestions
// compare an unknown name with all others.
const maxErrors = 5

// tooMany ends a walk that has found enough; a walk has no other end.
type tooMany struct{}

// validate checks a document by gqlparser's rules, with three of our own where it accepts what
// the specification forbids or does not have:
//   - a subscription has one root response key (gqlparser compares field names, so an alias
//     slips through), and that is no introspection field (5.2.3.1);
//   - no @skip or @include at a subscription's root (5.2.3.1);
//   - no @defer, which is no directive of ours (newRole), and no variables on fragments.
func validate(s *ast.Schema, doc *ast.QueryDocument) (errs gqlerror.List) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(tooMany); !ok {
				panic(r)
			}
		}
	}()
	observers := &core.Events{}
	for _, rule := range ruleSet() {
		rule.RuleFunc(observers, func(options ...core.ErrorOption) {
			err := &gqlerror.Error{Rule: rule.Name}
			for _, o := range options {
				o(err)
			}
			errs = append(errs, err)
			if len(errs) >= maxErrors {
				panic(tooMany{})
			}
		})
	}
	validator.Walk(s, doc, observers)
	return errs
}

// ruleSet are the rules of the specification's chapter 5, in a fixed order.
func ruleSet() []core.Rule {
	return []core.Rule{
		rules.KnownRootTypeRule,
		rules.LoneAnonymousOperationRule,
		rules.UniqueOperationNamesRule,
		rules.UniqueFragmentNamesRule,
		rules.UniqueVariableNamesRule,
		rules.KnownTypeNamesRule,
		rules.KnownFragmentNamesRule,
		rules.KnownDirectivesRule,
		rules.FragmentsOnCompositeTypesRule,
		rules.VariablesAreInputTypesRule,
		rules.ScalarLeafsRule,
		rules.FieldsOnCorrectTypeRule,
		rules.NoFragmentCyclesRule,
		rules.PossibleFragmentSpreadsRule,
		rules.NoUndefinedVariablesRule,
		rules.NoUnusedVariablesRule,
		rules.NoUnusedFragmentsRule,
		rules.UniqueDirectivesPerLocationRule,
		rules.KnownArgumentNamesRule,
		rules.UniqueArgumentNamesRule,
		rules.ValuesOfCorrectTypeRule,
		rules.ProvidedRequiredArgumentsRule,
		rules.VariablesInAllowedPositionRule,
		rules.OverlappingFieldsCanBeMergedRule,
		rules.UniqueInputFieldNamesRule,
		rules.MaxIntrospectionDepth,
		{Name: "SubscriptionRoot", RuleFunc: subscriptionRoot},
		{Name: "NoFragmentVariables", RuleFunc: noFragmentVariables},
	}
}

func subscriptionRoot(observers *core.Events, addError core.AddErrFunc) {
	observers.OnOperation(func(_ *core.Walker, op *ast.OperationDefinition) {
		if op.Operation != ast.Subscription {
			return
		}
		root := rootWalk{keys: map[string]bool{}, seen: map[string]bool{}, add: addError}
		root.set(op.SelectionSet)
		if len(root.keys) > 1 {
			addError(core.Message("A subscription must have exactly one field at its root; this one has %d.", len(root.keys)),
				core.At(op.Position))
		}
	})
}

// rootWalk visits the fields at the root of a subscription, through fragments.
type rootWalk struct {
	keys map[string]bool
	seen map[string]bool // fragments
	add  core.AddErrFunc
}

func (w *rootWalk) set(set ast.SelectionSet) {
	for _, s := range set {
		switch s := s.(type) {
		case *ast.Field:
			w.unconditional(s.Directives)
			w.keys[s.Alias] = true
			if len(s.Name) > 1 && s.Name[:2] == "__" {
				w.add(core.Message("A subscription must not have the introspection field %q at its root.", s.Name), core.At(s.Position))
			}
		case *ast.InlineFragment:
			w.unconditional(s.Directives)
			w.set(s.SelectionSet)
		case *ast.FragmentSpread:
			w.unconditional(s.Directives)
			if s.Definition != nil && !w.seen[s.Name] {
				w.seen[s.Name] = true
				w.set(s.Definition.SelectionSet)
			}
		}
	}
}

func (w *rootWalk) unconditional(directives ast.DirectiveList) {
	for _, d := range directives {
		if d.Name == "skip" || d.Name == "include" {
			w.add(core.Message("A subscription must not have @%s at its root.", d.Name), core.At(d.Position))
		}
	}
}

// noFragmentVariables refuses an experiment that gqlparser reads and no specification has.
func noFragmentVariables(observers *core.Events, addError core.AddErrFunc) {
	observers.OnFragment(func(_ *core.Walker, f *ast.FragmentDefinition) {
		if len(f.VariableDefinition) > 0 {
			addError(core.Message("Fragment %q must not define variables.", f.Name), core.At(f.Position))
		}
	})
}
