// Package client is a plain graphql-transport-ws client: what `rowtide subscribe`, the
// benchmarks and the tests speak to the service with. It keeps no state but the socket.
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"syscall"

	"github.com/coder/websocket"
)

// A Client is one socket. One goroutine may read while others write.
type Client struct {
	conn *websocket.Conn
}

// A Message is one message from the server.
type Message struct {
	ID      string          `json:"id"`
	Type    string          `json:"type"`
	Payload json.RawMessage `json:"payload"`
}

// readLimit is the largest message taken: a row with a value of 16 MiB, and then some.
const readLimit = 32 << 20

// Dial opens a socket and waits until the server acknowledges it. Without a token the client
// is anonymous.
func Dial(ctx context.Context, address, token string) (*Client, error) {
	conn, resp, err := websocket.Dial(ctx, address, &websocket.DialOptions{Subprotocols: []string{"graphql-transport-ws"}})
	if resp != nil && resp.Body != nil {
		_ = resp.Body.Close()
	}
	if err != nil {
		return nil, dialError(address, resp, err)
	}
	conn.SetReadLimit(readLimit)
	c := &Client{conn: conn}
	if err := c.hello(ctx, token); err != nil {
		_ = conn.CloseNow()
		return nil, err
	}
	return c, nil
}

// dialError says what keeps a socket from opening, and what to do.
func dialError(address string, resp *http.Response, err error) error {
	u, bad := url.Parse(address)
	switch {
	case bad != nil || u.Host == "" || u.Scheme != "ws" && u.Scheme != "wss":
		return fmt.Errorf("%s is no address of a service: write ws://host:port/graphql, or wss:// with TLS", address)
	case resp != nil && resp.StatusCode != http.StatusSwitchingProtocols:
		return fmt.Errorf("connect to %s: the server answered %s: the path of the service is /graphql", address, resp.Status)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("connect to %s: nobody listens there: check that rowtide serve runs, and its address", address)
	}
	return fmt.Errorf("connect to %s: %w", address, err)
}

func (c *Client) hello(ctx context.Context, token string) error {
	payload := map[string]string{}
	if token != "" {
		payload["authorization"] = "Bearer " + token
	}
	if err := c.write(ctx, map[string]any{"type": "connection_init", "payload": payload}); err != nil {
		return err
	}
	m, err := c.Next(ctx)
	if err != nil {
		return err
	}
	if m.Type != "connection_ack" {
		return fmt.Errorf("open socket: want connection_ack, got %s", m.Type)
	}
	return nil
}

// Subscribe starts an operation under an id. Variables may be nil.
func (c *Client) Subscribe(ctx context.Context, id, query string, variables map[string]any) error {
	payload := map[string]any{"query": query}
	if variables != nil {
		payload["variables"] = variables
	}
	return c.write(ctx, map[string]any{"id": id, "type": "subscribe", "payload": payload})
}

// Complete ends an operation.
func (c *Client) Complete(ctx context.Context, id string) error {
	return c.write(ctx, map[string]any{"id": id, "type": "complete"})
}

// Ping sends a ping with a payload, such as a fresh token; the server answers with a pong.
func (c *Client) Ping(ctx context.Context, payload any) error {
	return c.write(ctx, map[string]any{"type": "ping", "payload": payload})
}

// Next waits for the next message. It answers pings by itself and does not return them. When
// the server closes the socket the error is a *Closed.
func (c *Client) Next(ctx context.Context) (Message, error) {
	for {
		_, data, err := c.conn.Read(ctx)
		if err != nil {
			var closed websocket.CloseError
			if errors.As(err, &closed) {
				return Message{}, &Closed{Code: int(closed.Code), Reason: closed.Reason}
			}
			return Message{}, fmt.Errorf("read from socket: %w", err)
		}
		var m Message
		if err := json.Unmarshal(data, &m); err != nil {
			return Message{}, fmt.Errorf("read message: %w", err)
		}
		if m.Type != "ping" {
			return m, nil
		}
		if err := c.write(ctx, map[string]any{"type": "pong"}); err != nil {
			return Message{}, err
		}
	}
}

// Close says goodbye and closes the socket.
func (c *Client) Close() error { return c.conn.Close(websocket.StatusNormalClosure, "") }

// CloseNow drops the socket without a word.
func (c *Client) CloseNow() error { return c.conn.CloseNow() }

func (c *Client) write(ctx context.Context, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write message: %w", err)
	}
	if err := c.conn.Write(ctx, websocket.MessageText, data); err != nil {
		return fmt.Errorf("write to socket: %w", err)
	}
	return nil
}

// Closed is the end of a socket that the server closed.
type Closed struct {
	Code   int
	Reason string
}

// Error names the code and the reason.
func (c *Closed) Error() string {
	return fmt.Sprintf("the server closed the connection: %d %s", c.Code, c.Reason)
}

// Retryable tells that coming back later makes sense: all but the codes that say that this
// client is at fault.
func (c *Closed) Retryable() bool {
	switch c.Code {
	case 4400, 4401, 4406, 4409, 4429:
		return false
	}
	return true
}
