package graphqlws_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/fanout"
	"github.com/rowtide/rowtide/fanout/graphqlws"
)

func TestSubscribeGivesLiveAndThenEveryChange(t *testing.T) {
	t.Parallel()
	p := open(t, graphqlws.Config{}, fanout.Limits{})
	s := p.connect()
	s.send(subscribeTo("a", ""))
	s.expectKind("a", "LIVE")
	p.write(1)
	s.expectKind("a", "INSERT")
	s.send(`{"id":"b","type":"subscribe","payload":{"query":"{ __typename }"}}`)
	s.expect(`{"id":"b","type":"next","payload":{"data":{"__typename":"Query"}}}`, `{"id":"b","type":"complete"}`)
	p.write(1)
	s.expectKind("a", "INSERT")
}

func TestSnapshotComesOverTheSocket(t *testing.T) {
	t.Parallel()
	p := open(t, graphqlws.Config{}, fanout.Limits{})
	s := p.connect()
	s.send(subscribeTo("a", "(snapshot: true)"))
	for _, kind := range []string{"RESET", "SNAPSHOT", "LIVE"} {
		s.expectKind("a", kind)
	}
}

// Covers S04.
func TestSubscribeBeforeAckCloses4401(t *testing.T) {
	t.Parallel()
	p := open(t, graphqlws.Config{}, fanout.Limits{})
	s := p.dial(nil)
	s.send(subscribeTo("a", ""))
	if n := s.expectClose(4401, "Unauthorized"); n != 0 {
		t.Errorf("%d messages came first", n)
	}
	// A client that does not wait for the answer to a bad token.
	s = p.dial(nil)
	s.send(`{"type":"connection_init","payload":{"token":"bad"}}`, subscribeTo("a", ""))
	if n := s.expectClose(4401, ""); n != 0 {
		t.Errorf("%d messages came first", n)
	}
	if p.dispatcher.Subscriptions() != 0 {
		t.Error("a subscription was made")
	}
}

// Covers S05.
func TestOtherSubprotocolsAreRefused(t *testing.T) {
	t.Parallel()
	p := open(t, graphqlws.Config{}, fanout.Limits{})
	for _, offer := range [][]string{nil, {"graphql-ws"}, {"GraphQL-Transport-WS"}, {"graphql-transport-ws2"}} {
		if _, status := p.upgrade(p.url, nil, offer...); status != http.StatusBadRequest {
			t.Errorf("offer %v: %d, want 400", offer, status)
		}
	}
	ws, status := p.upgrade(p.url, nil, "graphql-ws", graphqlws.Subprotocol)
	if ws == nil {
		t.Fatalf("offer both: %d", status)
	}
	defer ws.CloseNow() //nolint:errcheck // a client's end is nobody's matter
	if ws.Subprotocol() != graphqlws.Subprotocol {
		t.Errorf("negotiated %q", ws.Subprotocol())
	}
}

// Covers S06.
func TestSecondInitCloses4429(t *testing.T) {
	t.Parallel()
	s := open(t, graphqlws.Config{}, fanout.Limits{}).connect()
	s.send(`{"type":"connection_init","payload":{"authorization":"good"}}`)
	s.expectClose(4429, "Too many initialisation requests")
}

// Covers S07.
func TestNoInitCloses4408(t *testing.T) {
	t.Parallel()
	const limit = time.Second // in which a busy machine gets a client that says it at once
	p := open(t, graphqlws.Config{InitTimeout: limit}, fanout.Limits{})
	s := p.dial(nil)
	s.send(`{"type":"ping"}`)
	s.expect(`{"type":"pong"}`)
	s.expectClose(4408, "Connection initialisation timeout")
	acknowledged := p.connect()
	<-time.After(limit + 100*time.Millisecond) // longer than the client had to say who it is
	acknowledged.send(`{"type":"ping"}`)
	acknowledged.expect(`{"type":"pong"}`)
}

// Covers S08.
func TestDuplicateIDCloses4409AndEndsTheFirst(t *testing.T) {
	t.Parallel()
	p := open(t, graphqlws.Config{}, fanout.Limits{})
	s := p.connect()
	s.send(subscribeTo("a", ""))
	s.expectKind("a", "LIVE")
	s.send(subscribeTo("a", ""))
	s.expectClose(4409, "Subscriber for a already exists")
	eventually(t, "no subscription is left", func() bool { return p.dispatcher.Subscriptions() == 0 })
}

// Covers S09, S18.
func TestInvalidMessagesClose(t *testing.T) {
	t.Parallel()
	p := open(t, graphqlws.Config{}, fanout.Limits{})
	for name, tt := range map[string]struct {
		kind websocket.MessageType
		data string
		code int
	}{
		"not JSON":              {websocket.MessageText, `{"type":"ping"`, 4400},
		"no object":             {websocket.MessageText, `["ping"]`, 4400},
		"more behind it":        {websocket.MessageText, `{"type":"ping"} x`, 4400},
		"no type":               {websocket.MessageText, `{}`, 4400},
		"unknown type":          {websocket.MessageText, `{"type":"hello"}`, 4400},
		"a server's type":       {websocket.MessageText, `{"type":"connection_ack"}`, 4400},
		"a type in capitals":    {websocket.MessageText, `{"TYPE":"ping"}`, 4400},
		"a key twice":           {websocket.MessageText, `{"type":"ping","type":"pong"}`, 4400},
		"a payload's key twice": {websocket.MessageText, `{"type":"subscribe","id":"1","payload":{"query":"x","query":"y"}}`, 4400},
		"payload of ping":       {websocket.MessageText, `{"type":"ping","payload":7}`, 4400},
		"no id":                 {websocket.MessageText, `{"type":"complete"}`, 4400},
		"empty id":              {websocket.MessageText, `{"type":"subscribe","id":"","payload":{"query":"x"}}`, 4400},
		"long id":               {websocket.MessageText, `{"type":"complete","id":"` + strings.Repeat("x", 129) + `"}`, 4400},
		"no query":              {websocket.MessageText, `{"type":"subscribe","id":"1","payload":{}}`, 4400},
		"a hash for a query":    {websocket.MessageText, `{"type":"subscribe","id":"1","payload":{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"00"}}}}`, 4400},
		"variables":             {websocket.MessageText, `{"type":"subscribe","id":"1","payload":{"query":"x","variables":[]}}`, 4400},
		"operationName":         {websocket.MessageText, `{"type":"subscribe","id":"1","payload":{"query":"x","operationName":1}}`, 4400},
		"deep":                  {websocket.MessageText, `{"type":"ping","payload":` + strings.Repeat("[", 60000), 4400},
		"deep, and closed":      {websocket.MessageText, `{"type":"ping","payload":{"a":` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `}}`, 4400},
		"binary":                {websocket.MessageBinary, `{"type":"ping"}`, 1003},
		"not UTF-8":             {websocket.MessageText, "{\"type\":\"ping\",\"payload\":{\"a\":\"\xff\"}}", 1007},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := p.dial(nil)
			s.t = t
			s.sendRaw(tt.kind, []byte(tt.data))
			if n := s.expectClose(tt.code, ""); n != 0 {
				t.Errorf("%d messages came first", n)
			}
		})
	}
}

// Covers S10.
func TestMessagesOverTheReadLimitClose1009(t *testing.T) {
	t.Parallel()
	p := open(t, graphqlws.Config{}, fanout.Limits{})
	s := p.dial(nil)
	s.send(`{"type":"ping","payload":{"a":"` + strings.Repeat("x", 60<<10) + `"}}`)
	if m, err := s.read(); err != nil || !strings.HasPrefix(m, `{"type":"pong"`) {
		t.Fatalf("a message below the limit: %.40s, %v", m, err)
	}
	s.send(`{"type":"ping","payload":{"a":"` + strings.Repeat("x", 70<<10) + `"}}`)
	s.expectClose(1009, "")
}

// Covers S11.
func TestOperationsOfAConnectionAreBounded(t *testing.T) {
	t.Parallel()
	p := open(t, graphqlws.Config{Operations: 2}, fanout.Limits{})
	s := p.connect()
	s.send(subscribeTo("a", ""))
	s.expectKind("a", "LIVE")
	s.send(subscribeTo("b", ""))
	s.expectKind("b", "LIVE")
	s.send(subscribeTo("c", ""))
	if code, _ := s.expectError("c"); code != "LIMIT_EXCEEDED" {
		t.Errorf("code %s", code)
	}
	if n := p.dispatcher.Subscriptions(); n != 2 {
		t.Errorf("%d subscriptions", n)
	}
	s.send(`{"id":"a","type":"complete"}`, subscribeTo("c", ""))
	s.expectKind("c", "LIVE")
}

// Covers S12.
func TestChurnLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	p := open(t, graphqlws.Config{Limiter: authz.NewLimiter(authz.Limits{})}, fanout.Limits{})
	s := p.connect()
	for range 2000 {
		s.send(subscribeTo("a", ""), `{"id":"a","type":"complete"}`)
	}
	s.send(subscribeTo("b", ""))
	for { // a LIVE of a may have been on its way
		m, err := s.read()
		if err != nil {
			t.Fatalf("read: %v", err)
		}
		if strings.Contains(m, `"b"`) {
			break
		}
	}
	eventually(t, "one subscription is left", func() bool { return p.dispatcher.Subscriptions() == 1 })
}

func TestCompleteStopsAtOnceAndFreesTheID(t *testing.T) {
	t.Parallel()
	p := open(t, graphqlws.Config{}, fanout.Limits{})
	s := p.connect()
	s.send(subscribeTo("a", ""))
	s.expectKind("a", "LIVE")
	s.send(`{"id":"a","type":"complete"}`, `{"id":"a","type":"complete"}`, `{"id":"unknown","type":"complete"}`, `{"type":"ping"}`)
	s.expect(`{"type":"pong"}`)
	p.write(1)
	s.send(`{"type":"ping"}`)
	s.expect(`{"type":"pong"}`) // and no INSERT, nor a complete
	s.send(subscribeTo("a", ""))
	s.expectKind("a", "LIVE")
}

func TestErrorEndsAnOperationAndNothingElse(t *testing.T) {
	t.Parallel()
	p := open(t, graphqlws.Config{}, fanout.Limits{})
	s := p.connect()
	s.send(subscribeTo("a", ""))
	s.expectKind("a", "LIVE")
	s.send(`{"id":"b","type":"subscribe","payload":{"query":"subscription { nothing }"}}`)
	if code, _ := s.expectError("b"); code != "GRAPHQL_VALIDATION_FAILED" {
		t.Errorf("code %s", code)
	}
	s.send(`{"id":"b","type":"subscribe","payload":{"query":"subscription {"}}`) // the id is free, and no complete came
	if code, _ := s.expectError("b"); code != "GRAPHQL_PARSE_FAILED" {
		t.Errorf("code %s", code)
	}
	p.write(1)
	s.expectKind("a", "INSERT")
}

// Covers C20, S36.
func TestACursorThatIsNotHeldIsResyncRequired(t *testing.T) {
	t.Parallel()
	p := open(t, graphqlws.Config{}, fanout.Limits{})
	s := p.connect()
	for _, cursor := range []string{"x", strings.Repeat("A", 32)} {
		s.send(subscribeTo("a", `(after: \"`+cursor+`\")`))
		if code, reason := s.expectError("a"); code != "RESYNC_REQUIRED" || reason != "retention" {
			t.Errorf("cursor %s: %s %s", cursor, code, reason)
		}
	}
}

func TestPingIsAnsweredAtAnyTime(t *testing.T) {
	t.Parallel()
	p := open(t, graphqlws.Config{}, fanout.Limits{})
	s := p.dial(nil)
	s.send(`{"type":"ping"}`, `{"type":"pong"}`, `{"type":"ping","payload":{"a":[1,"x"]}}`, `{"type":"ping","payload":null}`)
	s.expect(`{"type":"pong"}`, `{"type":"pong","payload":{"a":[1,"x"]}}`, `{"type":"pong"}`)
	s.send(`{"type":"ping","payload":{"authorization":"Bearer good"}}`)
	s.expect(`{"type":"pong"}`) // it does not repeat the token, nor stand for connection_init
	s.send(subscribeTo("a", ""))
	s.expectClose(4401, "")
}

func TestTokenOrItsLackDecidesWhoIsLetIn(t *testing.T) {
	t.Parallel()
	p := open(t, graphqlws.Config{}, fanout.Limits{})
	p.mu.Lock()
	p.tokens["old"] = user("ann", "web_user", time.Now().Add(-time.Minute), "{}")
	p.mu.Unlock()
	authorization := func(v string) http.Header { return http.Header{"Authorization": {v}} }
	for name, tt := range map[string]struct {
		header http.Header
		init   string
		code   int // 0 for let in
	}{
		"payload":                      {nil, `,"payload":{"authorization":"Bearer good"}`, 0},
		"token":                        {nil, `,"payload":{"token":"good"}`, 0},
		"headers":                      {nil, `,"payload":{"headers":{"Authorization":"Bearer good"}}`, 0},
		"header of the upgrade":        {authorization("Bearer good"), ``, 0},
		"payload counts before header": {authorization("Bearer good"), `,"payload":{"token":"bad"}`, 4401},
		"bad token":                    {nil, `,"payload":{"token":"bad"}`, 4401},
		"empty token":                  {nil, `,"payload":{"authorization":"Bearer "}`, 4401},
		"expired token":                {nil, `,"payload":{"token":"old"}`, 4403},
		"no token, nobody anonymous":   {nil, ``, 4401},
		"token of another type":        {nil, `,"payload":{"token":7}`, 4400},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := p.dial(tt.header)
			s.t = t
			s.send(`{"type":"connection_init"` + tt.init + `}`)
			if tt.code == 0 {
				s.expect(`{"type":"connection_ack"}`)
				return
			}
			s.expectClose(tt.code, "")
		})
	}
}

func TestAnonymousClientsAreLetInWhereThereIsARole(t *testing.T) {
	t.Parallel()
	p := open(t, graphqlws.Config{}, fanout.Limits{})
	p.mu.Lock()
	p.anon = user("", "web_anon", time.Time{}, "{}")
	p.mu.Unlock()
	s := p.dial(nil)
	s.send(`{"type":"connection_init","payload":null}`)
	s.expect(`{"type":"connection_ack"}`)
	s.send(subscribeTo("a", ""))
	s.expectKind("a", "LIVE")
	s.send(`{"type":"ping","payload":{"authorization":"good"}}`) // nobody becomes somebody
	s.expectClose(4403, "")
}

// Covers S31.
func TestTokensAreRefusedInTheAddressAndNeverLogged(t *testing.T) {
	t.Parallel()
	p := open(t, graphqlws.Config{}, fanout.Limits{})
	for _, query := range []string{"?token=good", "?a=1&access_token=good", "?Authorization=Bearer%20good", "?x=1;token=good", "?jwt=good"} {
		if _, status := p.upgrade(p.url+"/"+query, nil, graphqlws.Subprotocol); status != http.StatusBadRequest {
			t.Errorf("%s: %d, want 400", query, status)
		}
	}
	for _, payload := range []string{`{"token":"secret-token"}`, `{"authorization":"Bearer secret-token"}`} {
		s := p.dial(http.Header{"Authorization": {"Bearer secret-token"}})
		s.send(`{"type":"connection_init","payload":` + payload + `}`)
		s.expectClose(4401, "")
	}
	s := p.connect()
	s.send(`{"type":"ping","payload":{"authorization":"secret-token"}}`)
	s.expectClose(4401, "")
	if log := p.log.String(); log == "" || strings.Contains(log, "secret-token") || strings.Contains(log, "good") {
		t.Errorf("the log is empty or holds a token:\n%s", log)
	}
}

// Covers S01, S02.
func TestOnlyListedOriginsConnect(t *testing.T) {
	t.Parallel()
	p := open(t, graphqlws.Config{Origins: []string{"https://app.example.com", "http://localhost:3000"}}, fanout.Limits{})
	for origin, want := range map[string]int{
		"":                                       101,
		"https://app.example.com":                101,
		"http://localhost:3000":                  101,
		"null":                                   403,
		"https://app.example.com.evil.net":       403,
		"https://evil.net":                       403,
		"http://app.example.com":                 403,
		"https://app.example.com:8443":           403,
		"https://APP.example.com":                403,
		"https://app.example.com/":               403,
		"http://localhost:3001":                  403,
		"http" + strings.TrimPrefix(p.url, "ws"): 403, // the server's own, which the Host header would name
	} {
		header := http.Header{}
		if origin != "" {
			header.Set("Origin", origin)
		}
		ws, status := p.upgrade(p.url, header, graphqlws.Subprotocol)
		if ws != nil {
			_ = ws.CloseNow()
		}
		if status != want {
			t.Errorf("origin %q: %d, want %d", origin, status, want)
		}
	}
	both := http.Header{"Origin": {"https://app.example.com", "https://evil.net"}}
	if _, status := p.upgrade(p.url, both, graphqlws.Subprotocol); status != http.StatusForbidden {
		t.Errorf("two origins: %d, want 403", status)
	}
}

// Covers S27.
func TestExpiryCloses4403(t *testing.T) {
	t.Parallel()
	p := open(t, graphqlws.Config{}, fanout.Limits{})
	p.mu.Lock()
	p.tokens["short"] = user("ann", "web_user", time.Now().Add(2*time.Second), "{}")
	p.mu.Unlock()
	for _, subscribed := range []bool{true, false} {
		s := p.dial(nil)
		s.send(`{"type":"connection_init","payload":{"token":"short"}}`)
		s.expect(`{"type":"connection_ack"}`)
		if subscribed {
			s.send(subscribeTo("a", ""))
			s.expectKind("a", "LIVE")
		}
		s.expectClose(4403, "token has expired")
		p.mu.Lock()
		p.tokens["short"] = user("ann", "web_user", time.Now().Add(2*time.Second), "{}")
		p.mu.Unlock()
	}
}

// Covers S28.
func TestRefreshKeepsTheSubjectOrCloses(t *testing.T) {
	t.Parallel()
	p := open(t, graphqlws.Config{}, fanout.Limits{})
	add := func(token string, who *authz.Principal) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.tokens[token] = who
	}
	add("short", user("ann", "web_user", time.Now().Add(time.Second), `{"sub":"ann","exp":1}`))
	add("longer", user("ann", "web_user", time.Now().Add(time.Hour), `{"sub":"ann","exp":2,"iat":3}`))
	add("bob", user("bob", "web_user", time.Time{}, `{"sub":"bob"}`))
	add("role", user("ann", "web_anon", time.Time{}, `{"sub":"ann"}`))
	add("claims", user("ann", "web_user", time.Time{}, `{"sub":"ann","team":7}`))
	s := p.dial(nil)
	s.send(`{"type":"connection_init","payload":{"token":"short"}}`)
	s.expect(`{"type":"connection_ack"}`)
	s.send(subscribeTo("a", ""))
	s.expectKind("a", "LIVE")
	s.send(`{"type":"ping","payload":{"authorization":"Bearer longer"}}`)
	s.expect(`{"type":"pong"}`)
	<-time.After(1100 * time.Millisecond) // the first token has ended
	p.write(1)
	s.expectKind("a", "INSERT")
	s.send(`{"type":"ping","payload":{"authorization":"Bearer claims"}}`) // what it sees may differ now
	pong, resync := false, false
	for range 2 {
		m, err := s.read()
		if err != nil {
			t.Fatalf("read: %v", err)
		}
		pong = pong || m == `{"type":"pong"}`
		resync = resync || strings.Contains(m, `"reason":"policy_changed"`)
	}
	if !pong || !resync {
		t.Errorf("pong %v, resync %v", pong, resync)
	}
	s.send(`{"type":"ping","payload":{"authorization":"Bearer bob"}}`)
	s.expectClose(4403, "token is of another subject or role")
	for token, code := range map[string]int{"role": 4403, "nonsense": 4401} {
		s := p.connect()
		s.send(`{"type":"ping","payload":{"authorization":"` + token + `"}}`)
		s.expectClose(code, "")
	}
}

// Covers S13, C110.
func TestSlowReaderIsClosed1013WithAllBeforeIt(t *testing.T) {
	t.Parallel()
	p := open(t, graphqlws.Config{WriteTimeout: patience}, fanout.Limits{QueueBytes: 256 << 10})
	quick := p.connect()
	quick.send(subscribeTo("q", ""))
	quick.expectKind("q", "LIVE")
	s := p.connect()
	s.send(`{"id":"a","type":"subscribe","payload":{"query":"subscription { notes { kind row { id text } } }"}}`)
	first := s.expectKind("a", "LIVE")
	for range 300 { // 30 MB: more than the queue and the system's buffers take
		p.write(100 << 10)
		quick.expectKind("q", "INSERT") // who reads is not held up
	}
	last := 0
	for {
		m, err := s.read()
		if err != nil {
			var c websocket.CloseError
			if !errors.As(err, &c) || c.Code != 1013 {
				t.Fatalf("socket ended with %v, want close 1013", err)
			}
			break
		}
		n := parseNext(t, m)
		if last != 0 && n.Payload.Data.Notes.Row.ID != last+8 {
			t.Fatalf("%d follows %d: a frame is missing", n.Payload.Data.Notes.Row.ID, last)
		}
		last, first = n.Payload.Data.Notes.Row.ID, n
	}
	// What is missing is missing at the end, and the cursor gets it.
	s = p.connect()
	s.send(subscribeTo("a", `(after: \"`+first.Payload.Extensions.Cursor+`\")`))
	if n := s.expectKind("a", "INSERT"); n.Payload.Data.Notes.Row.ID != last+8 && last != 0 {
		t.Errorf("resumes with %d behind %d", n.Payload.Data.Notes.Row.ID, last)
	}
}

// Covers S13.
func TestAClientThatNeverReadsIsCutOff(t *testing.T) {
	t.Parallel()
	p := open(t, graphqlws.Config{WriteTimeout: 100 * time.Millisecond}, fanout.Limits{QueueBytes: 64 << 20})
	s := p.connect()
	s.send(`{"id":"a","type":"subscribe","payload":{"query":"subscription { notes { row { id text } } }"}}`)
	for range 300 {
		p.write(100 << 10)
	}
	eventually(t, "the connection is gone", func() bool { return p.handler.Connections() == 0 && p.dispatcher.Subscriptions() == 0 })
}

// Covers S14.
func TestAClientThatDoesNotAnswerPingsIsCutOff(t *testing.T) {
	t.Parallel()
	p := open(t, graphqlws.Config{PingInterval: 50 * time.Millisecond}, fanout.Limits{})
	p.connect() // it does not read from here on, so it does not answer
	eventually(t, "the connection is gone", func() bool { return p.handler.Connections() == 0 })
}

func TestAClientThatAnswersPingsIsKept(t *testing.T) {
	t.Parallel()
	p := open(t, graphqlws.Config{PingInterval: time.Second}, fanout.Limits{})
	s := p.connect()
	done := make(chan error, 1)
	go func() { // who reads answers
		_, err := s.read()
		done <- err
	}()
	<-time.After(2500 * time.Millisecond) // two pings, and the time to answer the first
	if n := p.handler.Connections(); n != 1 {
		t.Errorf("%d connections", n)
	}
	_ = s.ws.CloseNow()
	<-done
}

// Covers S14.
func TestAFloodOfMessagesIsReadAtTheRateOnly(t *testing.T) {
	t.Parallel()
	p := open(t, graphqlws.Config{Limiter: authz.NewLimiter(authz.Limits{authz.Messages: {authz.PerConnection: 100}})}, fanout.Limits{})
	s := p.connect()
	start := time.Now()
	go func() {
		for range 160 {
			ctx, cancel := s.wait()
			_ = s.ws.Write(ctx, websocket.MessageText, []byte(`{"type":"ping"}`))
			cancel()
		}
	}()
	for range 160 {
		s.expect(`{"type":"pong"}`)
	}
	if took := time.Since(start); took < 500*time.Millisecond {
		t.Errorf("160 messages and connection_init were read in %v, with 100 a second and 100 at once", took)
	}
}

func TestTooManyConnectionsAreToldToComeBack(t *testing.T) {
	t.Parallel()
	p := open(t, graphqlws.Config{Limiter: authz.NewLimiter(authz.Limits{authz.Connections: {authz.InAll: 1}})}, fanout.Limits{})
	s := p.connect()
	over := p.dial(nil)
	over.expectClose(1013, "the server has 1 connections, as many as it may: come back in 5 s")
	s.send(`{"type":"ping"}`)
	s.expect(`{"type":"pong"}`)
}

// Covers C117.
func TestDrainFlushesAndCloses1012(t *testing.T) {
	t.Parallel()
	p := open(t, graphqlws.Config{WriteTimeout: patience}, fanout.Limits{QueueBytes: 64 << 20})
	idle, busy, fresh := p.connect(), p.connect(), p.dial(nil)
	busy.send(`{"id":"a","type":"subscribe","payload":{"query":"subscription { notes { kind row { id text } } }"}}`)
	busy.expectKind("a", "LIVE")
	const n = 200 // with 20 MB: more than the system's buffers take
	for range n {
		p.write(100 << 10)
	}
	// What the dispatcher has seen is what a drain owes.
	watch := p.connect()
	watch.send(subscribeTo("w", ""))
	watch.expectKind("w", "LIVE")
	p.write(1)
	for id := 0; id < int(p.commit); { // commits from before LIVE may come too
		id = watch.expectKind("w", "INSERT").Payload.Data.Notes.Row.ID
	}
	done := make(chan error, 1)
	go func() { done <- p.handler.Drain(context.Background()) }()
	for _, s := range []*socket{idle, fresh, watch} {
		s.expectClose(1012, "service is restarting: come back")
	}
	if got := busy.expectClose(1012, ""); got != n+1 {
		t.Errorf("%d frames came before the close, want %d", got, n+1)
	}
	if err := <-done; err != nil {
		t.Errorf("drain: %v", err)
	}
	if _, status := p.upgrade(p.url, nil, graphqlws.Subprotocol); status != http.StatusServiceUnavailable {
		t.Errorf("while draining: %d, want 503", status)
	}
}

func TestDrainCutsOffWhoDoesNotRead(t *testing.T) {
	t.Parallel()
	p := open(t, graphqlws.Config{WriteTimeout: time.Hour}, fanout.Limits{QueueBytes: 64 << 20})
	s := p.connect()
	s.send(`{"id":"a","type":"subscribe","payload":{"query":"subscription { notes { row { id text } } }"}}`)
	for range 300 {
		p.write(100 << 10)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if err := p.handler.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("drain: %v, want context.DeadlineExceeded", err)
	}
	if n := p.handler.Connections(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
}
