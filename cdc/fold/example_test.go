package fold_test

import (
	"context"
	"fmt"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/cdc/fold"
)

// A row that is made, changed and given another key in one transaction is one insert.
func ExampleFolder() {
	tasks := &cdc.Relation{OID: 1, Schema: "public", Name: "tasks", Identity: cdc.IdentityFull, Columns: []cdc.Column{{Name: "id"}, {Name: "title"}}}
	row := func(id, title string) cdc.Row { return cdc.Row{cdc.TextValue(id), cdc.TextValue(title)} }
	f, err := fold.New(fold.Config{Key: func(*cdc.Relation) []int { return []int{0} }})
	if err != nil {
		fmt.Println(err)
		return
	}
	f.Begin()
	f.Add(cdc.Event{Op: cdc.Insert, Relation: tasks, New: row("1", "write")})
	f.Add(cdc.Event{Op: cdc.Update, Relation: tasks, Old: row("1", "write"), New: row("1", "write it")})
	f.Add(cdc.Event{Op: cdc.Update, Relation: tasks, Old: row("1", "write it"), New: row("2", "write it")})
	err = f.Finish(context.Background(), cdc.Transaction{Commit: 100}, func(b *cdc.Batch) error {
		for _, ev := range b.Events {
			fmt.Println(ev.Seq, ev.Op, ev.New[0].Text(), ev.New[1].Text())
		}
		return nil
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output: 0 insert 2 write it
}
