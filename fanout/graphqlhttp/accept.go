package graphqlhttp

import (
	"mime"
	"strconv"
	"strings"
)

// A media is a way to answer.
type media int

const (
	responseJSON media = iota + 1 // application/graphql-response+json
	plainJSON                     // application/json, whose statuses tell of HTTP alone
	eventStream
	multipart
)

// mediaTypes are the types as clients name them.
var mediaTypes = map[media]string{
	responseJSON: "application/graphql-response+json",
	plainJSON:    "application/json",
	eventStream:  "text/event-stream",
	multipart:    "multipart/mixed;subscriptionSpec=1.0",
}

// A mediaRange is one element of Accept (RFC 9110, 12.5.1).
type mediaRange struct {
	typ, subtype string
	spec         string // the parameter subscriptionSpec
	quality      int    // in thousandths
}

// An accept is what a client takes. Nothing at all stands for everything.
type accept []mediaRange

// maxRanges is more than any client sends; what follows is not looked at.
const maxRanges = 32

// parseAccept reads Accept. Elements that are none are skipped: no answer is better than
// another for them.
func parseAccept(values []string) accept {
	var out accept
	for _, element := range splitList(strings.Join(values, ",")) {
		if r, ok := parseRange(element); ok && len(out) < maxRanges {
			out = append(out, r)
		}
	}
	if out == nil && strings.TrimSpace(strings.Join(values, "")) == "" {
		return accept{{typ: "*", subtype: "*", quality: maxQuality}}
	}
	return out
}

const maxQuality = 1000

func parseRange(element string) (mediaRange, bool) {
	name, params, err := mime.ParseMediaType(element)
	typ, subtype, ok := strings.Cut(name, "/")
	if err != nil || !ok || typ == "" || subtype == "" || typ == "*" && subtype != "*" {
		return mediaRange{}, false
	}
	r := mediaRange{typ: typ, subtype: subtype, spec: params["subscriptionspec"], quality: maxQuality}
	if q, ok := params["q"]; ok {
		f, err := strconv.ParseFloat(q, 64)
		if err != nil || !(f >= 0 && f <= 1) { // NaN is neither
			return mediaRange{}, false
		}
		r.quality = int(f * maxQuality)
	}
	return r, true
}

// splitList splits at commas outside quoted strings.
func splitList(s string) []string {
	var out []string
	from, quoted := 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			out = append(out, s[from:i])
			from = i + 1
		}
	}
	return append(out, s[from:])
}

// match tells how specifically a range names a media: 0 not at all, 3 by its name. Streams are
// for those who ask for them by name: a page of another site can have a browser send any other
// GET (an image's Accept ends in */*), and a client that knows of no streams would wait forever.
func (r mediaRange) match(m media) int {
	name, _, _ := strings.Cut(mediaTypes[m], ";")
	typ, subtype, _ := strings.Cut(name, "/")
	switch {
	case r.typ == typ && r.subtype == subtype:
		if m == multipart && r.spec != "1.0" {
			return 0
		}
		return 3
	case m == eventStream || m == multipart || m == responseJSON:
		return 0 // before the watershed, whoever names it knows it
	case r.typ == typ && r.subtype == "*":
		return 2
	case r.typ == "*":
		return 1
	}
	return 0
}

// quality is that of the range that names a media most specifically.
func (a accept) quality(m media) int {
	best, quality := 0, 0
	for _, r := range a {
		if n := r.match(m); n > best {
			best, quality = n, r.quality
		}
	}
	return quality
}

// prefer gives the first of the best, 0 for none.
func (a accept) prefer(among ...media) (best media) {
	quality := 0
	for _, m := range among {
		if q := a.quality(m); q > quality {
			best, quality = m, q
		}
	}
	return best
}

// forResult is the media for one result, or for errors.
func (a accept) forResult() media { return a.prefer(responseJSON, plainJSON, eventStream, multipart) }

// forStream is the media for a subscription, 0 where the client takes none.
func (a accept) forStream() media { return a.prefer(eventStream, multipart) }

// any tells whether there is an answer that the client takes.
func (a accept) any() bool { return a.forResult() != 0 }

// forRefusal is the JSON for what is refused, whatever the client takes.
func (a accept) forRefusal() media {
	if m := a.prefer(responseJSON, plainJSON); m != 0 {
		return m
	}
	return plainJSON
}
