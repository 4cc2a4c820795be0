package graphqlhttp

import (
	"github.com/rowtide/rowtide/fanout"
)

// parts is the framing of Apollo's multipart subscriptions: one part for each result. A part is
// read once the boundary behind it has come, so each is written together with it.
type parts struct{}

const (
	boundary  = "\r\n---" // the boundary is "-", which clients take where they are told none
	partStart = "\r\nContent-Type: application/json\r\n\r\n"
)

func (parts) contentType() string { return `multipart/mixed;boundary="-";subscriptionSpec=1.0` }

func (parts) open(dst []byte) []byte { return append(dst, boundary...) }

func (parts) beat(dst []byte) []byte {
	return append(dst, partStart+"{}"+boundary...)
}

func (parts) next(dst, payload []byte) []byte {
	dst = append(dst, partStart+`{"payload":`...)
	dst = append(dst, payload...)
	return append(dst, "}"+boundary...)
}

// end tells errors that end the subscription beside the payload, where the protocol has them.
// Whether to come back is the client's to decide, by their code: the protocol has no other way.
func (parts) end(dst []byte, err error) []byte {
	if err != nil {
		dst = append(dst, partStart+`{"payload":null,"errors":`...)
		dst = fanout.AppendErrors(dst, err)
		dst = append(dst, "}"+boundary...)
	}
	return append(dst, "--\r\n"...)
}
