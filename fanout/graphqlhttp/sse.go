package graphqlhttp

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"strconv"

	"github.com/rowtide/rowtide/fanout"
)

// events is the framing of an event stream: of one operation, or in single connection mode of
// what does not belong to any.
type events struct{}

func (events) contentType() string { return mediaTypes[eventStream] + "; charset=utf-8" }

// open tells a browser after how many milliseconds to come back when the stream ends: not all
// at once.
func (events) open(dst []byte) []byte {
	const least, spread = 1000, 2000
	dst = append(dst, "retry: "...)
	dst = strconv.AppendInt(dst, int64(least+rand.IntN(spread)), 10)
	return append(dst, "\n\n"...)
}

func (events) beat(dst []byte) []byte { return append(dst, ":\n\n"...) }

// next sets the event's id to the frame's cursor, and to none where it has none.
func (events) next(dst, payload []byte) []byte {
	dst = append(dst, "event: next\nid: "...)
	dst = append(dst, cursorOf(payload)...)
	dst = append(dst, "\ndata: "...)
	dst = appendLine(dst, payload)
	return append(dst, "\n\n"...)
}

// end completes the operation where that is over. Where it only ends here, because of a token,
// a restart or a slow reader, the stream just ends: clients know by the missing complete that
// they should come back.
func (e events) end(dst []byte, err error) []byte {
	switch {
	case err == nil:
	case ofOperation(err):
		dst = e.next(dst, failure(err))
	default:
		dst = append(dst, ": "...)
		dst = appendLine(dst, []byte(fanout.Explain(err).Message))
		return append(dst, "\n\n"...)
	}
	return append(dst, "event: complete\ndata:\n\n"...)
}

// appendNextOf writes an operation's result in single connection mode. The id is quoted.
func appendNextOf(dst []byte, id string, payload []byte) []byte {
	dst = append(dst, `event: next`+"\n"+`data: {"id":`...)
	dst = append(dst, id...)
	dst = append(dst, `,"payload":`...)
	dst = appendLine(dst, payload)
	return append(dst, "}\n\n"...)
}

func appendCompleteOf(dst []byte, id string) []byte {
	dst = append(dst, `event: complete`+"\n"+`data: {"id":`...)
	dst = append(dst, id...)
	return append(dst, "}\n\n"...)
}

// appendLine writes JSON as one line. Between its tokens JSON may hold line ends, and what a
// column of type json holds comes as it was written; inside strings they are escaped.
func appendLine(dst, payload []byte) []byte {
	for {
		i := bytes.IndexAny(payload, "\r\n")
		if i < 0 {
			return append(dst, payload...)
		}
		dst = append(append(dst, payload[:i]...), ' ')
		payload = payload[i+1:]
	}
}

// cursorOf gives the cursor that package schema writes at a frame's end, nothing for null.
func cursorOf(payload []byte) []byte {
	const before, after = `"extensions":{"cursor":"`, `"}}`
	rest, ok := bytes.CutSuffix(payload, []byte(after))
	if !ok {
		return nil
	}
	i := bytes.LastIndexByte(rest, '"') + 1
	if !bytes.HasSuffix(rest[:i], []byte(before)) {
		return nil
	}
	return rest[i:]
}

// quote writes a string as JSON.
func quote(s string) string {
	b, _ := json.Marshal(s) //nolint:errchkjson // a string always can be
	return string(b)
}
