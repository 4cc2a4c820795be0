//go:build !unix

package graphqlws

const canPeek = false

func readable(uintptr) bool { return true }
