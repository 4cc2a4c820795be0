package feedtest

import (
	"fmt"
	"strings"
	"time"
)

// transaction plans a random one.
func (p *plan) transaction(truncate bool) {
	size := min(p.size(), p.max)
	if truncate && p.IntN(300) == 0 {
		p.truncate()
	}
	for len(p.statements) < size {
		switch n := p.IntN(100); {
		case n < 4:
			p.savepoint(min(size, 30))
		default:
			p.change()
		}
	}
}

// size draws how many statements a transaction has: most have few, some have a thousand.
func (p *plan) size() int {
	switch n := p.IntN(100); {
	case n < 35:
		return 1 + p.IntN(3)
	case n < 65:
		return 4 + p.IntN(60)
	case n < 93:
		return 40 + p.IntN(200)
	default:
		return 200 + p.IntN(800)
	}
}

// savepoint plans changes behind a savepoint, which is more often rolled back than not.
func (p *plan) savepoint(most int) {
	if p.void {
		return
	}
	p.do("SAVEPOINT s")
	p.void = p.IntN(3) > 0
	for range 1 + p.IntN(most) {
		p.change()
	}
	end := "RELEASE s"
	if p.void {
		end = "ROLLBACK TO s"
	}
	p.void = false
	p.do(end)
}

func (p *plan) change() {
	if p.members && p.IntN(12) == 0 {
		p.member()
		return
	}
	switch p.IntN(3) {
	case 0:
		p.document()
	case 1:
		p.ticket()
	default:
		p.task()
	}
}

// member changes who belongs to a team, or dissolves it with its tasks.
func (p *plan) member() {
	team, of := 1+p.IntN(teams), user(1+p.IntN(users))
	switch n := p.IntN(20); {
	case n < 8:
		p.do("INSERT INTO members VALUES ($1, $2) ON CONFLICT DO NOTHING", team, of)
	case n < 14:
		p.do("DELETE FROM members WHERE team_id = $1 AND user_id = $2", team, of)
	case n < 17:
		p.do("UPDATE members m SET team_id = $1 WHERE m.user_id = $2 AND m.team_id = $3 AND NOT EXISTS (SELECT FROM members x WHERE x.team_id = $1 AND x.user_id = $2)",
			team, of, 1+p.IntN(teams))
	case n < 19:
		p.do("DELETE FROM members WHERE team_id = $1 AND user_id = $2", team, of)
		p.do("UPDATE tasks SET title = 'hidden' WHERE team_id = $1", team)
	default:
		p.do("DELETE FROM members WHERE team_id = $1", team)
		p.do("DELETE FROM tasks WHERE team_id = $1", team)
	}
}

// truncate empties the tasks and makes some anew, one of which may have been there.
func (p *plan) truncate() {
	p.task()
	p.do("TRUNCATE tasks")
	for range 1 + p.IntN(300) {
		p.insertTask(p.taskKey())
	}
}

// fill plans the first rows.
func (p *plan) fill() {
	for team := 1; team <= teams; team++ {
		for n := 1; n <= users; n++ {
			if p.IntN(3) == 0 {
				p.do("INSERT INTO members VALUES ($1, $2)", team, user(n))
			}
		}
	}
	for range documentKeys / 2 {
		p.insertDocument(p.documentKey(), "DO NOTHING")
	}
	for range ticketKeys * 2 {
		region, number := p.ticketKey()
		p.insertTicket(region, number, "DO NOTHING")
	}
	for range taskKeys / 2 {
		p.insertTask(p.taskKey())
	}
}

func (p *plan) document() {
	id := p.documentKey()
	again := func(sql string, args ...any) {
		p.do("UPDATE documents SET "+sql+" WHERE id = $1", append([]any{id}, args...)...)
	}
	switch n := p.IntN(100); {
	case n < 14:
		p.insertDocument(id, "DO NOTHING")
	case n < 18:
		p.insertDocument(id, "(id) DO UPDATE SET title = excluded.title, owner = excluded.owner")
	case n < 30:
		p.do("DELETE FROM documents WHERE id = $1", id)
	case n < 36:
		p.do("DELETE FROM documents WHERE id = $1", id)
		p.insertDocument(id, "DO NOTHING")
	case n < 39:
		p.insertDocument(id, "DO NOTHING")
		p.do("DELETE FROM documents WHERE id = $1", id)
	case n < 46:
		p.do("UPDATE documents SET id = $2 WHERE id = $1 AND NOT EXISTS (SELECT FROM documents WHERE id = $2)", id, p.documentKey())
	case n < 58:
		again("owner = $2", p.owner())
	case n < 62:
		again("secret = $2", p.text())
	case n < 66:
		again("title = title, owner = owner")
	case n < 72:
		for range 2 + p.IntN(4) {
			again("amount = $2, owner = $3", p.money(), p.owner())
		}
	case n < 76:
		again("body = $2", p.big())
	case n < 79:
		p.do("UPDATE documents SET is_starred = NOT is_starred WHERE id BETWEEN $1 AND $1 + 9", id)
	default:
		again("title = $2, amount = $3, meta = $4, is_starred = $5, updated_at = $6", p.text(), p.money(), p.json(), p.flag(), p.moment())
	}
}

func (p *plan) ticket() {
	region, number := p.ticketKey()
	again := func(sql string, args ...any) {
		p.do("UPDATE tickets SET "+sql+" WHERE region = $1 AND number = $2", append([]any{region, number}, args...)...)
	}
	switch n := p.IntN(100); {
	case n < 14:
		p.insertTicket(region, number, "DO NOTHING")
	case n < 18:
		p.insertTicket(region, number, "(region, number) DO UPDATE SET priority = excluded.priority")
	case n < 30:
		p.do("DELETE FROM tickets WHERE region = $1 AND number = $2", region, number)
	case n < 36:
		p.do("DELETE FROM tickets WHERE region = $1 AND number = $2", region, number)
		p.insertTicket(region, number, "DO NOTHING")
	case n < 46:
		to, other := p.ticketKey()
		p.do("UPDATE tickets SET region = $3, number = $4 WHERE region = $1 AND number = $2 AND NOT EXISTS (SELECT FROM tickets WHERE region = $3 AND number = $4)",
			region, number, to, other)
	case n < 62:
		again("is_public = $3, priority = $4", p.flag(), p.priority())
	case n < 66:
		again("note = $3", p.text())
	case n < 70:
		again("subject = subject")
	case n < 76:
		for range 2 + p.IntN(4) {
			again("price = $3, is_public = $4", p.money(), p.flag())
		}
	default:
		again("subject = $3, price = $4, due = $5, made_at = $6", p.text(), p.money(), p.date(), p.moment())
	}
}

func (p *plan) task() {
	id := p.taskKey()
	again := func(sql string, args ...any) {
		p.do("UPDATE tasks SET "+sql+" WHERE id = $1", append([]any{id}, args...)...)
	}
	switch n := p.IntN(100); {
	case n < 16:
		p.insertTask(id)
	case n < 27:
		p.do("DELETE FROM tasks WHERE id = $1", id)
	case n < 33:
		p.do("DELETE FROM tasks WHERE id = $1", id)
		p.insertTask(id)
	case n < 40:
		p.do("UPDATE tasks SET id = $2, team_id = $3 WHERE id = $1 AND NOT EXISTS (SELECT FROM tasks WHERE id = $2)", id, p.taskKey(), p.team())
	case n < 54:
		again("team_id = $2", p.team())
	case n < 58:
		again("cost = $2", p.money())
	case n < 62:
		again("team_id = team_id, body = body")
	case n < 68:
		for range 2 + p.IntN(4) {
			again("hours = $2, team_id = $3", p.money(), p.team())
		}
	case n < 71:
		again("body = $2", p.big())
	default:
		again("title = $2, is_done = $3, hours = $4, details = $5", p.title(), p.flag(), p.money(), p.json())
	}
}

func (p *plan) insertDocument(id int64, conflict string) {
	p.do("INSERT INTO documents VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT "+conflict,
		id, p.owner(), p.text(), p.text(), p.money(), p.flag(), p.json(), p.text(), p.moment())
}

func (p *plan) insertTicket(region string, number int, conflict string) {
	p.do("INSERT INTO tickets VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT "+conflict,
		p.text(), region, number, p.flag(), p.priority(), p.text(), p.money(), p.date(), p.moment())
}

func (p *plan) insertTask(id string) {
	p.do("INSERT INTO tasks VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
		id, p.team(), p.title(), p.flag(), p.money(), p.json(), p.text(), p.money())
}

func (p *plan) documentKey() int64 { return p.Int64N(documentKeys) + 9_007_199_254_740_000 } // around 2^53

func (p *plan) ticketKey() (string, int) { return regions()[p.IntN(4)], p.IntN(ticketKeys) }

func (p *plan) taskKey() string {
	return fmt.Sprintf("00000000-0000-4000-8000-%012x", p.IntN(taskKeys))
}

func (p *plan) owner() string { return user(1 + p.IntN(users+2)) } // two own something and do not subscribe

func (p *plan) team() any {
	if p.IntN(20) == 0 {
		return nil
	}
	return 1 + p.IntN(teams)
}

func (p *plan) priority() any {
	if p.IntN(20) == 0 {
		return nil
	}
	return p.IntN(6)
}

func (p *plan) flag() bool { return p.IntN(2) == 0 }

// text draws what is hard to quote, to compare and to tell apart.
func (p *plan) text() any {
	odd := []string{"", "-", "null", "NULL", "it's \"so\" \\ <b>", "a,b{c}", "line\nbreak\ttab\r", "Zażółć 𝄞 \u2028 é", " lead and trail ", "\u0001\u007f"}
	switch n := p.IntN(10); {
	case n == 0:
		return nil
	case n < 3:
		return odd[p.IntN(len(odd))]
	}
	return fmt.Sprintf("text %d", p.IntN(1000))
}

func (p *plan) title() string { return fmt.Sprintf("title %d", p.IntN(1000)) }

// big is a value that is kept out of line (TOAST_TUPLE_THRESHOLD, about 2 kB).
func (p *plan) big() string {
	return strings.Repeat(fmt.Sprintf("%016x", p.Uint64()), 160+p.IntN(200))
}

func (p *plan) money() any {
	odd := []string{"0", "-0.01", "NaN", "999999.99", "1.10", "100"}
	switch n := p.IntN(10); {
	case n == 0:
		return nil
	case n < 3:
		return odd[p.IntN(len(odd))]
	}
	return fmt.Sprintf("%d.%02d", p.IntN(1000), p.IntN(100))
}

func (p *plan) json() any {
	odd := []string{`{}`, `[]`, `"text"`, `1.10`, `true`, `{"a": [1, {"b": null}], "é": "\"<"}`, `12345678901234567890.123`}
	switch n := p.IntN(10); {
	case n == 0:
		return nil
	case n < 5:
		return odd[p.IntN(len(odd))]
	}
	return fmt.Sprintf(`{"n": %d, "tags": ["x", "y"]}`, p.IntN(100))
}

func (p *plan) date() any {
	odd := []any{nil, "infinity", "9999-12-31"}
	if p.IntN(10) == 0 {
		return odd[p.IntN(len(odd))]
	}
	return fmt.Sprintf("20%02d-%02d-%02d", p.IntN(100), 1+p.IntN(12), 1+p.IntN(28))
}

func (p *plan) moment() string {
	if p.IntN(40) == 0 {
		return "infinity"
	}
	at := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(p.Int64N(int64(100*365*24*time.Hour)/1000)) * 1000)
	return at.Format("2006-01-02 15:04:05.999999")
}
