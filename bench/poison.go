package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"strconv"
)

// poisons are what the policy does for a principal of that name.
var poisons = []struct{ name, sql string }{
	{"raises", `RAISE EXCEPTION 'poison'`},
	{"sleeps", `PERFORM pg_sleep(3600)`},
	{"loops", `LOOP PERFORM 1; END LOOP`},
	{"writes", `INSERT INTO loot VALUES (1)`},
	{"resets the role", `RESET ROLE`},
}

func poisonSchema() string {
	cases := ""
	for _, p := range poisons {
		cases += fmt.Sprintf("WHEN '%s' THEN %s;\n", p.name, p.sql)
	}
	return `
CREATE TABLE feed (id bigint PRIMARY KEY, owner text NOT NULL, topic int NOT NULL, sent bigint NOT NULL, payload text NOT NULL);
CREATE TABLE loot (id int); GRANT INSERT ON loot TO %s;
CREATE FUNCTION sees() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
  CASE current_setting('request.jwt.claims', true)::json ->> 'sub'
` + cases + `ELSE NULL; END CASE;
  RETURN true; END $$;
ALTER TABLE feed ENABLE ROW LEVEL SECURITY;
CREATE POLICY sees ON feed FOR SELECT TO %s USING (sees());
GRANT SELECT ON feed TO %s;
COMMENT ON TABLE feed IS '@subscribe';`
}

// Poison measures how long changes take to honest subscribers while the policy, which Postgres evaluates,
// does something evil for one principal who subscribes again whenever he is thrown out; against the same without him.
type Poison struct {
	Subscribers int `help:"Honest principals, for each of whom Postgres is asked." default:"20"`
	PerSecond   int `help:"Changes a second that all of them get." default:"20"`
	Seconds     int `help:"How long each kind of poison lasts." default:"60"`
}

func (*Poison) needs() bedConfig { return bedConfig{schema: poisonSchema(), clients: true} }

func (s *Poison) measure(ctx context.Context, b *bed) (*Result, error) {
	foe, err := startLoad(ctx)
	if err != nil {
		return nil, err
	}
	defer foe.close()
	if _, err := b.load.do(order{Do: doOpen, Address: b.address(), Sockets: s.Subscribers, PerSocket: 1, Query: feedQuery, Subject: "u{socket}"}); err != nil {
		return nil, err
	}
	r := newResult("poison", b.version, 1, "p50 ms", "p90 ms", "p99 ms", "max ms", "his subscriptions")
	r.Charted = 2
	measure := func(name, subject string) (float64, error) {
		o := order{Do: doFlood, Address: b.address(), Sockets: 1, Seconds: s.Seconds, Subject: subject}
		if subject != "" {
			o.Flood = floodResubscribe
		}
		if err := foe.tell(o); err != nil {
			return 0, err
		}
		honest, err := b.load.do(order{Do: doWrite, URL: b.url, Rate: s.PerSecond, Seconds: s.Seconds, PerTransaction: 1, First: b.written + 1, Subscriptions: s.Subscribers})
		if err != nil {
			return 0, fmt.Errorf("beside one for whom the policy %s: %w", name, err)
		}
		b.written += s.PerSecond * s.Seconds
		tried, err := foe.hear()
		if err != nil {
			return 0, err
		}
		r.add(name, honest.P50/1e3, honest.P90/1e3, honest.P99/1e3, honest.Max/1e3, float64(tried.Frames))
		return honest.P99, nil
	}
	if _, err := measure("to warm up", ""); err != nil {
		return nil, err
	}
	r.Series = nil
	calm, err := measure("nobody", "")
	if err != nil {
		return nil, err
	}
	for _, p := range poisons {
		p99, err := measure(p.name, p.name)
		if err != nil {
			return nil, err
		}
		r.ratio("p99 beside one for whom it "+p.name+" / without", p99/calm, "")
	}
	r.Notes = []string{fmt.Sprintf("%d honest principals get %d changes a second, each asked about to Postgres for each of them; each frame is checked.", s.Subscribers, s.PerSecond)}
	return r, nil
}

// floodResubscribe is the flood of one who subscribes again whenever his subscription ends.
const floodResubscribe = "subscribe again"

func (f *foe) resubscribe(conn net.Conn, r *bufio.Reader) error {
	if err := f.init(conn, f.token); err != nil {
		return err
	}
	buf := make([]byte, 32<<10)
	for n := 1; ; n++ {
		id := strconv.Itoa(n)
		if _, err := conn.Write(clientFrame(0x81, `{"id":"`+id+`","type":"subscribe","payload":{"query":"subscription { feed { row { id } } }"}}`)); err != nil {
			return err
		}
		f.tried.Add(1)
		for {
			k, err := r.Read(buf)
			if err != nil {
				return err
			}
			if bytes.Contains(buf[:k], []byte(`"type":"error"`)) || bytes.Contains(buf[:k], []byte(`"type":"complete"`)) {
				f.refused.Add(1)
				break
			}
		}
	}
}
